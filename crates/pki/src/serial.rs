//! Serial numbers (RFC 5280 §4.1.2.2).

use std::{fmt, num::NonZeroU128, str::FromStr};

/// A certificate's serial number: 128 random bits, never zero.
///
/// RFC 5280 §4.1.2.2 allows 20 octets; 128 bits need at most 17 with the sign octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(NonZeroU128);

/// The text is not a serial number in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a serial number: 1 to 32 hexadecimal digits, not all zero")]
pub struct NotASerialNumber;

impl SerialNumber {
    /// From 16 random octets; all zero is replaced by one, so that no entropy source can make us fail.
    #[must_use]
    pub fn from_random(octets: [u8; 16]) -> Self {
        Self(NonZeroU128::new(u128::from_be_bytes(octets)).unwrap_or(NonZeroU128::MIN))
    }

    /// From the number itself; zero is no serial.
    #[must_use]
    pub fn from_u128(number: u128) -> Option<Self> {
        NonZeroU128::new(number).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn to_u128(self) -> u128 {
        self.0.get()
    }

    /// The content octets of the DER INTEGER: minimal, positive (X.690 §8.3).
    #[must_use]
    pub fn der_content(self) -> Vec<u8> {
        let octets = self.0.get().to_be_bytes();
        let mut content: Vec<u8> = octets.iter().copied().skip_while(|octet| *octet == 0).collect();
        if content.first().is_some_and(|octet| octet & 0x80 != 0) {
            content.insert(0, 0);
        }
        content
    }

    /// From the content octets of a DER INTEGER. `None` where the number is negative, zero or
    /// wider than 128 bits (some other authority's).
    #[must_use]
    pub fn from_der_content(content: &[u8]) -> Option<Self> {
        if content.first().is_none_or(|octet| octet & 0x80 != 0) {
            return None;
        }
        let digits: Vec<u8> = content.iter().copied().skip_while(|octet| *octet == 0).collect();
        if digits.len() > 16 {
            return None;
        }
        let number = digits.iter().fold(0u128, |number, octet| number << 8 | u128::from(*octet));
        Self::from_u128(number)
    }
}

/// Lower-case hexadecimal, whole octets, without the sign octet.
impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:x}", self.0);
        if text.len() % 2 == 1 {
            f.write_str("0")?;
        }
        f.write_str(&text)
    }
}

impl FromStr for SerialNumber {
    type Err = NotASerialNumber;

    /// Hexadecimal, upper or lower case, colons allowed between octets as OpenSSL prints them.
    fn from_str(text: &str) -> Result<Self, NotASerialNumber> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() || digits.len() > 32 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(NotASerialNumber);
        }
        let number = u128::from_str_radix(digits, 16).map_err(|_| NotASerialNumber)?;
        Self::from_u128(number).ok_or(NotASerialNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_with_its_top_bit_set_gets_a_sign_octet() {
        let serial = SerialNumber::from_random([0xff; 16]);
        assert_eq!(serial.der_content().len(), 17);
        assert_eq!(SerialNumber::from_der_content(&serial.der_content()), Some(serial));
    }

    #[test]
    fn a_serial_is_never_zero_whatever_the_entropy_says() {
        assert_eq!(SerialNumber::from_random([0; 16]).to_u128(), 1);
        assert_eq!("00:00".parse::<SerialNumber>(), Err(NotASerialNumber));
    }

    #[test]
    fn a_serial_reads_back_what_it_writes() {
        let serial = SerialNumber::from_random(*b"\x00\x01abcdefghijklmn");
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert_eq!("01:62".parse::<SerialNumber>().map(SerialNumber::to_u128), Ok(0x162));
    }
}
