//! The commands, one file per noun.

mod authority;
mod check;
mod cluster;
mod eab;
mod init;
mod ledger;
mod live;
mod policy;
mod serve;
mod store;

use clap::CommandFactory as _;

use crate::{
    cli::{Cli, Command},
    exit::{Exit, Failed, Outcome},
};

/// Runs a command.
pub(crate) fn run(cli: Cli) -> Outcome {
    let Cli { config, output, command } = cli;
    let config = config.as_deref();
    match command {
        Command::Init(args) => init::run(&args),
        Command::Authority(command) => authority::run(command, config, output),
        Command::Serve(args) => serve::run(args, config),
        Command::Check => check::run(config),
        Command::Policy(command) => policy::run(command, config, output),
        Command::Ledger(command) => ledger::run(command, config, output),
        Command::Store(command) => store::run(command, config),
        Command::Backup(args) => live::backup(&args, config, output),
        Command::Reload => live::reload(config, output),
        Command::Certificate(command) => live::certificate(command, config, output),
        Command::Cluster(command) => cluster::run(command, config, output),
        Command::Account(command) => live::account(&command, config, output),
        Command::Eab(command) => eab::run(command, config, output),
        Command::Status => live::status(config, output),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "chancery", &mut script);
            crate::output::text(&String::from_utf8_lossy(&script))?;
            Ok(Exit::Ok)
        }
    }
}

/// Runs a future to its end on this thread.
fn wait_for<T>(future: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
