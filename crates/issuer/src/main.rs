//! The binary `chancery-issuer`: cert-manager's external issuer in front of a Chancery server.

use std::process::ExitCode;

fn main() -> ExitCode {
    chancery_issuer::cli::main()
}
