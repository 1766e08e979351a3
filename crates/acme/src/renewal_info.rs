//! Renewal information (RFC 9773): by what a certificate is asked about, and when it is best replaced.
//!
//! Pure: no clock, no store. Which certificates there are, and what else speaks for an early renewal, is decided elsewhere.

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_pki::{SerialNumber, Timestamp};

/// Longest identifier that is read, in characters: room for a key identifier of some 150 octets.
const TEXT_MAX: usize = 256;
/// Longest time until a client asks again (RFC 9773 §4.3.1 leaves it to the server).
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);
/// Where a client is told to ask again sooner: this many times in a certificate's life.
const ASKED_IN_A_LIFE: u32 = 48;
const SECOND: Duration = Duration::from_secs(1);

/// The unique identifier of a certificate (RFC 9773 §4.1): the key identifier of its issuer, as its authority key
/// identifier has it, and its serial number. As text, both in base64url without padding with a dot between.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UniqueIdentifier {
    key_identifier: Box<[u8]>,
    serial: Box<[u8]>,
}

/// The text is no unique identifier of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAUniqueIdentifier {
    /// Longer than any that is read.
    #[error("a certificate's unique identifier has at most {TEXT_MAX} characters")]
    TooLong,
    /// Not of the form.
    #[error(
        "a certificate's unique identifier is its authority key identifier and its serial number, each in base64url \
         without padding, with a dot between (RFC 9773 §4.1)"
    )]
    Form,
    /// A serial number that DER does not write so.
    #[error(
        "the serial number in a certificate's unique identifier is the content of its INTEGER in DER, with a leading zero \
         octet where its first bit is set and no other (RFC 9773 §4.1)"
    )]
    Serial,
}

impl UniqueIdentifier {
    /// From the octets of its two parts: the key identifier, and the content of the serial number's INTEGER in DER.
    ///
    /// # Errors
    ///
    /// [`NotAUniqueIdentifier`] where a part is empty, or the serial number is not as DER writes it (X.690 §8.3.2).
    pub fn new(key_identifier: &[u8], serial: &[u8]) -> Result<Self, NotAUniqueIdentifier> {
        if key_identifier.is_empty() || serial.is_empty() {
            return Err(NotAUniqueIdentifier::Form);
        }
        let superfluous = matches!(serial, [0, second, ..] if second & 0x80 == 0)
            || matches!(serial, [0xff, second, ..] if second & 0x80 != 0);
        if superfluous {
            return Err(NotAUniqueIdentifier::Serial);
        }
        let this = Self { key_identifier: key_identifier.into(), serial: serial.into() };
        if this.to_string().len() > TEXT_MAX { Err(NotAUniqueIdentifier::TooLong) } else { Ok(this) }
    }

    /// The key identifier of its issuer.
    #[must_use]
    pub fn key_identifier(&self) -> &[u8] {
        &self.key_identifier
    }

    /// The content of the serial number's INTEGER in DER.
    #[must_use]
    pub fn serial_der(&self) -> &[u8] {
        &self.serial
    }

    /// The serial number, where it is one that this software gives: positive, of at most 128 bits.
    #[must_use]
    pub fn serial(&self) -> Option<SerialNumber> {
        SerialNumber::from_der_content(&self.serial)
    }
}

impl FromStr for UniqueIdentifier {
    type Err = NotAUniqueIdentifier;

    fn from_str(text: &str) -> Result<Self, NotAUniqueIdentifier> {
        if text.len() > TEXT_MAX {
            return Err(NotAUniqueIdentifier::TooLong);
        }
        let (key_identifier, serial) = text.split_once('.').ok_or(NotAUniqueIdentifier::Form)?;
        // Bits that are left over are refused too, so that one certificate has one identifier.
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| NotAUniqueIdentifier::Form);
        Self::new(&decoded(key_identifier)?, &decoded(serial)?)
    }
}

impl fmt::Display for UniqueIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        write!(f, "{}.{}", encoded(&self.key_identifier), encoded(&self.serial))
    }
}

impl fmt::Debug for UniqueIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UniqueIdentifier({self})")
    }
}

/// When a certificate is best replaced (RFC 9773 §4.2): a client takes some moment in it, or this one where it has begun.
/// Whole seconds; it ends after it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuggestedWindow {
    start: Timestamp,
    end: Timestamp,
}

impl SuggestedWindow {
    /// The usual one of a certificate that serves from `from` until `until`: a tenth of that time, around two thirds of
    /// it, at which many clients renew by themselves. The same at every look, and wide enough that many certificates of
    /// one day are not replaced at one hour.
    #[must_use]
    pub fn usual(from: Timestamp, until: Timestamp) -> Self {
        let from = from.whole_seconds();
        let life = until.since(from);
        let middle = from.after(life * 2 / 3);
        Self::between(middle.before(life / 20), middle.after(life / 20))
    }

    /// The one of a certificate that is to be replaced at once: it was over two seconds after the certificate began.
    ///
    /// Not the moment at which that was found out: cert-manager 1.21 takes a window that began after its certificate did
    /// as that certificate's own, and would take this one as its successor's, whose beginning is dated back, and replace
    /// that too.
    #[must_use]
    pub fn over(not_before: Timestamp) -> Self {
        let start = not_before.after(SECOND);
        Self::between(start, start.after(SECOND))
    }

    fn between(start: Timestamp, end: Timestamp) -> Self {
        let (start, end) = (start.whole_seconds(), end.whole_seconds());
        // A life of few seconds leaves no room; an end that is no later than its start must not be told (§4.2).
        let end = end.max(start.after(SECOND));
        // Only where time itself ends is there nothing after the start.
        Self { start: start.min(end.before(SECOND)), end }
    }

    /// When it opens.
    #[must_use]
    pub const fn start(&self) -> Timestamp {
        self.start
    }

    /// When it closes.
    #[must_use]
    pub const fn end(&self) -> Timestamp {
        self.end
    }
}

/// What a client is told about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalInfo {
    /// When it is best replaced.
    pub window: SuggestedWindow,
    /// After how long it is worth asking again (RFC 9773 §4.3).
    pub ask_again: Duration,
}

impl RenewalInfo {
    /// What is told about a certificate that lives this long in all: six hours are usual until the next look, and a small
    /// part of the life where that is less.
    #[must_use]
    pub fn new(window: SuggestedWindow, life: Duration) -> Self {
        Self { window, ask_again: ASK_AGAIN.min(life / ASKED_IN_A_LIFE).max(SECOND) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(i64::try_from(seconds).expect("a few years"))
    }

    #[test]
    fn the_example_of_the_rfc_is_read_and_written() {
        // RFC 9773 §4.1: the serial number is 00:87:65:43:21.
        let text = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE";
        let read: UniqueIdentifier = text.parse().expect("the RFC's own");
        assert_eq!(read.to_string(), text);
        assert_eq!(read.key_identifier().len(), 20);
        assert_eq!(read.serial_der(), [0, 0x87, 0x65, 0x43, 0x21]);
        assert_eq!(read.serial(), SerialNumber::from_u128(0x87_65_43_21));
    }

    #[test]
    fn what_is_no_identifier_is_refused_and_one_certificate_has_one_identifier() {
        use NotAUniqueIdentifier as N;
        let long = format!("{}.AQ", "A".repeat(400));
        let one_too_many = format!("{}.AQ", "A".repeat(254));
        for (text, why) in [
            ("", N::Form),
            (".", N::Form),
            ("AQ", N::Form),
            ("AQ.", N::Form),
            (".AQ", N::Form),
            ("AQ.AQ.AQ", N::Form),
            ("AQ..AQ", N::Form),
            ("AQ==.AQ", N::Form),
            ("AQ.AQ==", N::Form),
            ("AR.AQ", N::Form),
            ("AQ.AR", N::Form),
            ("A.AQ", N::Form),
            ("+/8.AQ", N::Form),
            ("AQ.AQ ", N::Form),
            ("AQ.%41Q", N::Form),
            ("AQ.A\u{e4}", N::Form),
            ("AQ.AAE", N::Serial),
            ("AQ.AACH", N::Serial),
            ("AQ.__8", N::Serial),
            (&long, N::TooLong),
            (&one_too_many, N::TooLong),
        ] {
            assert_eq!(text.parse::<UniqueIdentifier>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn serial_numbers_of_others_are_read_and_are_none_of_ours() {
        // Zero, negative, wider than 128 bits.
        for text in ["AQ.AA", "AQ.hw", "AQ.AQIDBAUGBwgJCgsMDQ4PEBES"] {
            let read: UniqueIdentifier = text.parse().expect(text);
            assert_eq!(read.serial(), None, "{text}");
        }
    }

    #[test]
    fn the_usual_window_is_a_tenth_of_the_life_around_two_thirds_of_it() {
        let window = SuggestedWindow::usual(at(0), at(90 * DAY));
        assert_eq!(window, SuggestedWindow { start: at(60 * DAY - 9 * DAY / 2), end: at(60 * DAY + 9 * DAY / 2) });
        let window = SuggestedWindow::usual(at(1000), at(1600));
        assert_eq!(window, SuggestedWindow { start: at(1370), end: at(1430) });
    }

    #[test]
    fn a_client_asks_again_every_six_hours_and_sooner_in_a_short_life() {
        let of = |seconds| RenewalInfo::new(SuggestedWindow::over(at(0)), Duration::from_secs(seconds)).ask_again;
        assert_eq!(of(90 * DAY).as_secs(), 6 * 3600);
        assert_eq!(of(DAY).as_secs(), 1800);
        assert_eq!(of(600).as_secs(), 12);
        assert_eq!(of(1).as_secs(), 1);
    }

    proptest! {
        #[test]
        fn an_identifier_reads_back(key in prop::collection::vec(any::<u8>(), 1..64), serial in any::<[u8; 16]>()) {
            let serial = SerialNumber::from_random(serial);
            let made = UniqueIdentifier::new(&key, &serial.der_content()).expect("as DER writes it");
            prop_assert_eq!(made.to_string().parse::<UniqueIdentifier>(), Ok(made.clone()));
            prop_assert_eq!(made.serial(), Some(serial));
        }

        #[test]
        fn what_is_read_is_written_as_it_was(text in "[A-Za-z0-9_=.-]{0,40}") {
            if let Ok(read) = text.parse::<UniqueIdentifier>() {
                prop_assert_eq!(read.to_string(), text);
            }
        }

        #[test]
        fn a_window_ends_after_it_begins_and_lies_within_the_life(from in 0..4_000_000_000_u64, life in 0..4_000_000_000_u64) {
            let (first, last) = (at(from), at(from + life));
            for window in [SuggestedWindow::usual(first, last), SuggestedWindow::over(first)] {
                prop_assert!(window.start() < window.end());
                prop_assert!(window.start() >= first);
                prop_assert!(life < 3 || window.end() <= last, "{:?}", window);
            }
            prop_assert!(SuggestedWindow::over(first).start() > first);
        }
    }

    #[test]
    fn at_the_end_of_time_a_window_still_ends_after_it_begins() {
        for window in [SuggestedWindow::over(Timestamp::MAX), SuggestedWindow::usual(Timestamp::MAX, Timestamp::MAX)] {
            assert!(window.start() < window.end(), "{window:?}");
        }
    }
}
