//! The command line as people read it.

use clap::{Command, CommandFactory as _, Parser as _};

use crate::cli::{CertificateCommand, Cli, Command as CliCommand};

fn each(command: &Command, path: &str, visit: &mut impl FnMut(&str, &Command)) {
    visit(path, command);
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        each(inner, &format!("{path} {}", inner.get_name()), visit);
    }
}

#[test]
fn the_help_of_every_command() {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut shown = String::new();
    each(&root, "chancery", &mut |path, command| {
        shown.push_str(&format!("===== {path}\n{}\n", command.clone().render_long_help()));
    });
    insta::assert_snapshot!(shown);
}

#[test]
fn every_command_that_does_something_has_an_example() {
    let mut root = Cli::command();
    root.build();
    each(&root, "chancery", &mut |path, command| {
        let leaf = command.get_subcommands().all(|inner| inner.get_name() == "help");
        if leaf {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("  {path}")), "{path} shows no example");
        }
    });
}

#[test]
fn nothing_takes_a_secret_on_the_command_line() {
    let mut root = Cli::command();
    root.build();
    each(&root, "chancery", &mut |path, command| {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            let secret = ["passphrase", "password", "secret", "hmac"].iter().any(|word| name.contains(word));
            assert!(!secret || name.ends_with("_file"), "{path} takes {name} from its arguments");
        }
    });
}

#[test]
fn an_id_that_begins_with_a_hyphen_is_an_id() {
    // One in 64 ids does: they are base64url.
    let taken = |words: &[&str]| Cli::try_parse_from(["chancery"].iter().chain(words)).map(|cli| cli.command);
    for words in [
        ["certificate", "revoke", "-8q7AbX294gOLUJnBRkuRg", "--yes"].as_slice(),
        &["certificate", "revoke", "--yes", "-8q7AbX294gOLUJnBRkuRg"],
    ] {
        let Ok(CliCommand::Certificate(CertificateCommand::Revoke { id, yes, .. })) = taken(words) else {
            panic!("{words:?} is not taken");
        };
        assert_eq!((id.as_str(), yes), ("-8q7AbX294gOLUJnBRkuRg", true));
    }
    let words = ["certificate", "list", "--account", "--7AbX294gOLUJnBRkuRgQ", "--limit", "5"];
    let Ok(CliCommand::Certificate(CertificateCommand::List(args))) = taken(&words) else {
        panic!("{words:?} is not taken");
    };
    assert_eq!((args.account.as_deref(), args.limit), (Some("--7AbX294gOLUJnBRkuRgQ"), 5));
}
