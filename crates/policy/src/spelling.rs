//! The nearest valid spelling of a word that is not one.

pub(crate) use chancery_pki::spelling::nearest;
