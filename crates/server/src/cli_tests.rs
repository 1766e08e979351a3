//! The command line as people read it.

use clap::{Command, CommandFactory as _};

use crate::cli::Cli;

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
