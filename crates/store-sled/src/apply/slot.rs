//! Small values beside the records: what is owed, and what stands in an order's index entry.

use chancery_pki::Timestamp;

use crate::record::{self, RecordError};

/// When a job is due, and how often it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) due: Timestamp,
    pub(super) attempt: u32,
}

impl Owed {
    pub(super) fn encode(self) -> Vec<u8> {
        let attempt = record::encode_number(u64::from(self.attempt));
        [self.due.unix_millis().to_le_bytes().as_slice(), &attempt].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (due, attempt) = bytes.split_first_chunk::<8>().ok_or(RecordError::Malformed("it has no time"))?;
        let attempt = u32::try_from(record::decode_number(attempt)?);
        Ok(Self {
            due: Timestamp::from_unix_millis(i64::from_le_bytes(*due)),
            attempt: attempt.map_err(|_| RecordError::Malformed("it was tried too often"))?,
        })
    }
}

/// What stands in an order's index entry: nothing at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The order's one certificate is taken.
    pub(super) claimed: bool,
    /// Its pruning is owed.
    pub(super) pruning: Option<Owed>,
}

impl Slot {
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self { claimed: false, pruning: None } => Vec::new(),
            Self { claimed, pruning } => {
                let mut out = vec![u8::from(claimed)];
                out.extend(pruning.into_iter().flat_map(Owed::encode));
                out
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let Some((claimed, pruning)) = bytes.split_first() else {
            return Ok(Self { claimed: false, pruning: None });
        };
        let pruning = if pruning.is_empty() { None } else { Some(Owed::decode(pruning)?) };
        Ok(Self { claimed: *claimed == 1, pruning })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_s_entry_reads_back() {
        let owed = |attempt| Owed { due: Timestamp::from_unix_millis(1_795_600_000_123), attempt };
        for pruning in [None, Some(owed(0)), Some(owed(7)), Some(owed(u32::MAX))] {
            for claimed in [false, true] {
                let slot = Slot { claimed, pruning };
                assert_eq!(Slot::decode(&slot.encode()), Ok(slot));
            }
        }
    }
}
