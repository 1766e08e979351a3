//! DER taken apart and written again, so that a change deep inside keeps the lengths around it right.

/// Levels that are taken apart; what lies deeper stays octets.
const DEPTH_MAX: usize = 24;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// The identifier octet.
    pub(crate) tag: u8,
    /// Octets of zeros before the length that DER would not write; only a mutation puts some there.
    pub(crate) long_length: u8,
    pub(crate) content: Content,
}

/// What is in an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Octets(Vec<u8>),
    /// A row of elements; in a BIT STRING behind the octet that says how many bits are unused.
    Elements(Vec<u8>, Vec<Element>),
}

/// The elements of which `octets` are a row; `None` where they are none.
pub(crate) fn read(octets: &[u8]) -> Option<Vec<Element>> {
    row(octets, DEPTH_MAX)
}

fn row(mut octets: &[u8], depth: usize) -> Option<Vec<Element>> {
    let depth = depth.checked_sub(1)?;
    let mut elements = Vec::new();
    while !octets.is_empty() {
        let (tag, content, rest) = split(octets)?;
        // Constructed ones hold elements; OCTET STRINGs and BIT STRINGs often do (extensions, keys).
        let prefix = usize::from(tag == 0x03);
        let may = tag & 0x20 != 0 || (matches!(tag, 0x03 | 0x04) && content.len() > prefix);
        let inner = if may { content.get(prefix..).and_then(|content| row(content, depth)) } else { None };
        let content = match inner {
            Some(inner) => Content::Elements(content.get(..prefix)?.to_vec(), inner),
            None => Content::Octets(content.to_vec()),
        };
        elements.push(Element { tag, long_length: 0, content });
        octets = rest;
    }
    Some(elements)
}

fn split(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = octets.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (octets, rest) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(octets, _)| octets.len() <= 4)?;
        (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (first != 0x80).then_some((tag, content, rest))
}

/// Writes elements one behind the other.
pub(crate) fn write(elements: &[Element]) -> Vec<u8> {
    let mut octets = Vec::new();
    for element in elements {
        let content = match &element.content {
            Content::Octets(octets) => octets.clone(),
            Content::Elements(prefix, inner) => [prefix.clone(), write(inner)].concat(),
        };
        octets.push(element.tag);
        let length = content.len().to_be_bytes();
        let short: Vec<u8> = length.iter().copied().skip_while(|octet| *octet == 0).collect();
        let zeros = vec![0; usize::from(element.long_length)];
        match content.len() {
            0..0x80 if zeros.is_empty() => octets.push(u8::try_from(content.len()).unwrap_or_default()),
            _ => {
                octets.push(0x80 | u8::try_from(zeros.len() + short.len()).unwrap_or(0x7f));
                octets.extend(zeros);
                octets.extend(short);
            }
        }
        octets.extend(content);
    }
    octets
}

/// How many elements there are, at every level.
pub(crate) fn count(elements: &[Element]) -> usize {
    elements
        .iter()
        .map(|element| 1 + if let Content::Elements(_, inner) = &element.content { count(inner) } else { 0 })
        .sum()
}

/// The row that the element with this number stands in, and its place there.
pub(crate) fn nth(elements: &mut Vec<Element>, mut number: usize) -> Option<(&mut Vec<Element>, usize)> {
    let mut found = None;
    for (at, element) in elements.iter().enumerate() {
        let inner = if let Content::Elements(_, inner) = &element.content { count(inner) } else { 0 };
        if number <= inner {
            found = Some(at);
            break;
        }
        number -= inner + 1;
    }
    let at = found?;
    if number == 0 {
        return Some((elements, at));
    }
    match &mut elements.get_mut(at)?.content {
        Content::Elements(_, inner) => nth(inner, number - 1),
        Content::Octets(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SEQUENCE { INTEGER 5, OCTET STRING { SEQUENCE { BOOLEAN TRUE } }, BIT STRING { NULL } }
    const SAMPLE: &[u8] = b"\x30\x0f\x02\x01\x05\x04\x05\x30\x03\x01\x01\xff\x03\x03\x00\x05\x00";

    #[test]
    fn what_is_read_is_written_as_it_was_and_every_element_has_its_number() {
        let mut elements = read(SAMPLE).expect("DER");
        assert_eq!(write(&elements), SAMPLE);
        assert_eq!(count(&elements), 7);
        let tags: Vec<u8> = (0..7)
            .map(|number| {
                let (row, at) = nth(&mut elements, number).expect("there");
                row[at].tag
            })
            .collect();
        assert_eq!(tags, [0x30, 0x02, 0x04, 0x30, 0x01, 0x03, 0x05]);
        assert!(nth(&mut elements, 7).is_none());
    }

    #[test]
    fn a_length_longer_than_needed_is_written_when_asked_for() {
        let element = Element { tag: 4, long_length: 1, content: Content::Octets(vec![9]) };
        assert_eq!(write(&[element]), [4, 0x82, 0, 1, 9]);
    }
}
