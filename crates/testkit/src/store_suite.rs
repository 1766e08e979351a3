//! What every store does: one suite, run on each by [`store_suite!`](crate::store_suite!).
//!
//! Every function is one rule; it gets a new, empty store.

#![expect(missing_docs, reason = "the name of each function is its rule")]

mod accounts;
mod alone;
mod certificates;
mod commits;
mod eab_keys;
mod leaves;
mod orders;

use std::sync::Arc;

use async_trait::async_trait;
use chancery_acme::account::Account;
use chancery_authority::{
    changes::{Change, Changes, Committed, Put},
    ports::{CommitError, Store},
};

use crate::sample;

pub use self::{accounts::*, alone::*, certificates::*, commits::*, eab_keys::*, leaves::*, orders::*};

/// What becomes of the next commit, while its caller is told that this is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was not kept.
    Lost,
    /// It was kept.
    Kept,
}

/// A store and the power to hurt it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Ends it without notice and opens what it left.
    async fn restart(&mut self);
    /// Lets the next commit end unknown.
    fn fail_next(&self, fate: Fate);
}

/// Runs the suite on what `$fixture` makes: one test a rule.
#[macro_export]
macro_rules! store_suite {
    ($fixture:expr) => {
        $crate::store_suite!(@each $fixture;
            an_account_is_found_by_id_and_by_the_key_of_its_directory
            a_key_has_one_account_at_a_directory
            an_account_that_changes_its_key_gives_the_old_one_back
            accounts_come_in_pages
            an_order_comes_back_as_it_was_put
            a_put_on_another_version_than_is_stored_is_a_conflict_and_changes_nothing
            a_new_record_where_there_is_one_already_is_a_conflict
            the_orders_of_an_account_come_in_pages_and_go_with_the_order
            a_removal_needs_the_version_that_is_stored
            the_authorizations_of_a_valid_order_are_read_changed_and_removed_like_any
            an_account_s_certificates_are_listed_once_whatever_becomes_of_their_orders
            a_claim_is_taken_once_and_can_be_given_back
            the_claim_and_the_pruning_of_an_order_outlive_it_until_they_are_ended
            a_counter_stops_at_its_limit_and_never_goes_below_zero
            a_job_is_moved_by_scheduling_it_again_and_gone_when_finished
            jobs_are_due_in_the_order_of_time
            an_idempotency_outcome_comes_back_by_its_key_alone
            an_api_token_comes_back_as_it_was_put_in_pages_and_goes_by_its_version
            an_eab_key_comes_back_as_it_was_put_and_keys_come_in_pages_of_their_ids
            a_commit_that_wants_an_eab_key_as_it_was_is_a_conflict_once_it_changed
            of_two_uses_of_an_eab_key_that_has_one_left_one_is_kept
            what_is_in_force_is_one_record_that_outlives_a_restart
            a_crl_number_never_goes_back
            a_record_names_the_leaf_of_its_own_commit
            a_record_that_names_a_leaf_its_commit_has_not_is_refused
            leaves_come_back_in_order_and_end_at_the_tree
            a_leaf_that_is_too_large_is_refused_whole
            the_tree_grows_with_each_leaf
            certificates_are_found_by_every_index
            certificates_come_in_pages_by_every_index
            a_light_record_is_found_by_id_key_and_account_alone
            a_removed_certificate_is_found_no_more
            a_serial_is_issued_once
            a_commit_that_fails_half_way_keeps_nothing
            of_two_commits_on_the_same_version_one_wins
            what_was_committed_is_there_after_a_restart
            a_lost_commit_is_reported_unknown_and_leaves_nothing
            a_kept_commit_that_is_reported_unknown_is_there_whole
            the_newest_checkpoint_is_kept
            a_blob_is_kept_under_its_hash
        );
    };
    (@each $fixture:expr; $($rule:ident)+) => {
        $(
            #[tokio::test]
            async fn $rule() {
                $crate::store_suite::$rule(&mut $fixture).await;
            }
        )+
    };
}

type Any<'a> = &'a mut dyn Fixture;

async fn commit(fixture: &dyn Fixture, changes: Changes) -> Committed {
    fixture.store().commit(changes).await.expect("nothing stands against it")
}

async fn put_account(fixture: &dyn Fixture, number: u64) -> Account {
    let account = sample::account(number);
    commit(fixture, Changes::new().with(Change::Account(Put::new(account.clone())))).await;
    account
}

fn is_conflict(outcome: &Result<Committed, CommitError>) -> bool {
    matches!(outcome, Err(CommitError::Conflict))
}
