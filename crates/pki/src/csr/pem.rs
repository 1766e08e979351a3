//! Certificate signing requests in PEM (RFC 7468 §7).

use super::CSR_MAX;

/// The labels of a CSR; the second one is what old tools write.
const LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];
/// Longest PEM text that is read: four characters for three octets, line ends, and some words around it.
const PEM_MAX: usize = CSR_MAX / 2 * 3 + 1024;

/// A text that is no PEM with one CSR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPem {
    /// Longer than any CSR that is read.
    #[error("the certificate signing request has {length} characters, more than the {PEM_MAX} that are read")]
    TooLong {
        /// Its characters.
        length: usize,
    },
    /// Not PEM.
    #[error("the certificate signing request is no PEM: {0}")]
    Unreadable(String),
    /// Something else in PEM.
    #[error("there is a {} block where a CERTIFICATE REQUEST belongs", .0.escape_debug())]
    Label(String),
    /// No block at all.
    #[error("there is no CERTIFICATE REQUEST block in the certificate signing request")]
    Nothing,
    /// More than one.
    #[error("there is more than one block in the certificate signing request")]
    Several,
}

/// The DER of the one CSR in a PEM text.
///
/// # Errors
///
/// [`NotPem`].
pub fn from_pem(text: &str) -> Result<Vec<u8>, NotPem> {
    if text.len() > PEM_MAX {
        return Err(NotPem::TooLong { length: text.len() });
    }
    let mut found = None;
    for block in x509_parser::pem::Pem::iter_from_buffer(text.as_bytes()) {
        let block = block.map_err(|error| NotPem::Unreadable(error.to_string()))?;
        if !LABELS.contains(&&*block.label) {
            return Err(NotPem::Label(block.label.chars().take(40).collect()));
        }
        if found.replace(block.contents).is_some() {
            return Err(NotPem::Several);
        }
    }
    found.ok_or(NotPem::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::pem_block;

    #[test]
    fn one_block_is_read_and_nothing_else_is_taken_for_one() {
        let der = [0x30, 0x03, 0x02, 0x01, 0x00];
        for label in LABELS {
            assert_eq!(from_pem(&pem_block(label, &der)), Ok(der.to_vec()));
        }
        let one = pem_block("CERTIFICATE REQUEST", &der);
        assert_eq!(from_pem(&format!("words before\n{one}")), Ok(der.to_vec()));
        assert_eq!(from_pem(&format!("{one}{one}")), Err(NotPem::Several));
        assert_eq!(from_pem(""), Err(NotPem::Nothing));
        assert_eq!(from_pem("words"), Err(NotPem::Nothing));
        let label = Err(NotPem::Label("PRIVATE KEY".to_owned()));
        assert_eq!(from_pem(&pem_block("PRIVATE KEY", &der)), label);
        assert!(matches!(from_pem(&one.replace("-----END", "-----")), Err(NotPem::Unreadable(_))));
        assert!(matches!(from_pem(&"x".repeat(PEM_MAX + 1)), Err(NotPem::TooLong { .. })));
    }
}
