//! A map of texts as a condition sees it: an entry that is absent is the empty text, as a claim is.

use std::collections::BTreeMap;

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer, Sizer},
        types::{CelInt, CelString, MAP_TYPE, Type},
        value::{CowVal, Val},
    },
};

/// The entries; none at all where nothing was reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries<'a>(pub(crate) Option<&'a BTreeMap<String, String>>);

impl<'a> Entries<'a> {
    fn find(self, key: &dyn Val) -> Result<Option<&'a str>, ExecutionError> {
        match key.downcast_ref::<CelString<'_>>() {
            Some(key) => Ok(self.0.and_then(|entries| entries.get(key.inner())).map(String::as_str)),
            None => {
                Err(ExecutionError::UnexpectedType { got: key.get_type().name().to_owned(), want: "string".to_owned() })
            }
        }
    }
}

impl Val for Entries<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Container for Entries<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        self.find(value).map(|found| found.is_some())
    }
}

impl Indexer for Entries<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(CowVal::owned(CelString::from(self.find(key)?.unwrap_or_default())))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Sizer for Entries<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(self.0.map_or(0, |entries| i64::try_from(entries.len()).unwrap_or(i64::MAX)))
    }
}
