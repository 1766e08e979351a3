//! The configuration file: TOML, versioned, nothing unknown, every error with its place.
//!
//! A `Spec` is what stands in the file; [`Config`] is what it means, checked. Nothing here
//! opens a key, a chain or a policy: that is [`wiring`](crate::wiring)'s.

pub(crate) mod duration;
mod source;
mod spelling;
pub(crate) mod v1;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use source::{ConfigError, Source};
pub(crate) use v1::Config;

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["chancery.toml", "/etc/chancery/chancery.toml"];

/// The configuration could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// None was named, and none is where one is looked for.
    #[error(
        "no configuration: neither ./chancery.toml nor /etc/chancery/chancery.toml is there\n\
         make one with `chancery init DIR`, or name one with --config FILE or CHANCERY_CONFIG"
    )]
    None,
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something that it must not.
    #[error(transparent)]
    Broken(#[from] Box<ConfigError>),
}

/// Reads and checks the configuration.
pub(crate) fn load(named: Option<&Path>) -> Result<Config, LoadError> {
    let file = match named {
        Some(file) => file.to_owned(),
        None => PLACES.iter().map(PathBuf::from).find(|place| place.exists()).ok_or(LoadError::None)?,
    };
    let text = std::fs::read_to_string(&file).map_err(|source| LoadError::Read { file: file.clone(), source })?;
    let file = std::path::absolute(&file).unwrap_or(file);
    Ok(v1::parse(Source::new(file, text))?)
}
