//! The binary `chancery`: configuration, wiring, listeners, workers, commands.
//!
//! What acts on live state speaks to the running server over its local socket; what needs no
//! server (ceremony, checks, verification, restore) works on files. It holds no rule of issuance:
//! those are `authority`'s and `policy`'s.

mod cli;
#[cfg(test)]
mod cli_tests;
mod commands;
mod config;
mod exit;
mod files;
mod listeners;
mod observations;
mod operator;
mod output;
mod service;
mod system;
mod telemetry;
mod tls;
mod wiring;
mod workers;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    system::no_core_dumps();
    let cli = cli::Cli::parse();
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(failed) => {
            output::error(&failed.to_string());
            failed.exit.into()
        }
    }
}
