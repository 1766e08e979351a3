//! Every target over its kept samples and what chance makes of them; see the crate's documentation.

use std::{collections::BTreeSet, fs, path::Path};

use chancery_fuzz::{corpus, targets};

/// Most octets that all kept samples may have together.
const CORPUS_MAX: usize = 300 * 1024;

#[expect(clippy::print_stdout, reason = "what a run has seen, for whoever looks")]
fn run(target: &str) {
    println!("{}", targets::named(target).run(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz")));
}

macro_rules! targets {
    ($($test:ident = $target:literal,)*) => {
        $(
            #[test]
            fn $test() {
                run($target);
            }
        )*

        #[test]
        fn every_target_is_run_and_every_folder_of_samples_is_a_targets() {
            let run = BTreeSet::from([$($target.to_owned()),*]);
            let all: BTreeSet<String> = targets::all().iter().map(|target| target.name.to_owned()).collect();
            assert_eq!(run, all);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
            let folders: BTreeSet<String> = fs::read_dir(folder)
                .expect("a folder")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .collect();
            assert_eq!(folders, all);
        }
    };
}

targets! {
    any_acme_request_gets_an_answer_that_is_no_fault_of_ours = "acme-request",
    a_new_account_of_any_shape_is_taken_or_a_problem = "new-account",
    an_account_update_of_any_shape_is_taken_or_a_problem = "account",
    a_new_order_of_any_shape_is_taken_or_a_problem = "new-order",
    an_authorization_update_of_any_shape_is_taken_or_a_problem = "authorization",
    a_challenge_response_of_any_shape_is_taken_or_a_problem = "challenge",
    a_finalize_of_any_shape_is_taken_or_a_problem = "finalize",
    a_revocation_of_any_shape_is_taken_or_a_problem = "revoke-cert",
    an_identifier_of_a_certificate_has_one_spelling = "unique-identifier",
    an_envelope_that_is_taken_is_one_thing_to_every_reader = "jws",
    a_protected_header_that_is_taken_is_one_thing_to_every_reader = "protected-header",
    a_jwk_that_is_taken_is_the_canonical_spelling_of_its_key = "jwk",
    a_binding_that_is_taken_is_one_thing_to_every_reader = "eab",
    the_header_of_a_binding_that_is_taken_is_one_thing_to_every_reader = "eab-header",
    a_leaf_has_one_spelling = "leaf",
    a_bundle_has_one_spelling = "bundle",
    a_checkpoint_has_one_spelling = "checkpoint",
    a_verifier_key_has_one_spelling = "verifier-key",
    a_frontier_has_one_spelling = "frontier",
    any_request_over_the_local_socket_is_answered_in_words = "local-socket",
    what_the_local_socket_tells_is_read_and_written_as_the_same = "local-json",
    any_signing_request_is_answered_in_words = "signing-request",
    no_token_is_taken_without_a_key_and_none_is_told = "service-account-token",
    a_name_that_is_taken_is_the_same_name_to_everybody = "name",
    a_time_that_is_taken_is_that_of_rfc_3339 = "time",
    a_key_that_is_taken_is_the_same_key_to_everybody = "key",
    a_csr_that_is_taken_asks_the_same_of_everybody = "csr",
    a_csr_that_its_key_has_signed_asks_the_same_of_everybody = "csr-signed",
    a_certificate_that_is_read_says_the_same_to_everybody = "certificate",
    an_issuers_certificate_is_taken_or_refused = "issuer",
    a_web_servers_answer_is_a_body_a_redirect_or_refused_without_its_words = "http-01",
    a_certificate_that_fulfils_tls_alpn_01_is_as_rfc_8737_has_it = "tls-alpn-01",
    a_dns_answer_says_only_what_stands_in_it_about_the_name = "dns",
    a_policy_in_yaml_is_taken_or_refused_with_its_place = "policy-yaml",
    a_policy_in_toml_is_taken_or_refused_with_its_place = "policy-toml",
}

#[test]
fn the_kept_samples_stay_small() {
    let octets: usize =
        targets::all().iter().flat_map(|target| corpus(target.name)).map(|(_, octets)| octets.len()).sum();
    assert!(octets <= CORPUS_MAX, "{octets} octets");
}
