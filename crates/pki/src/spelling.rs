//! The nearest valid spelling of a word that is not one.

/// The candidate nearest to `found`, if it is near enough to be what was meant.
#[must_use]
pub fn nearest<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |word: &str| -> String {
        word.trim().to_lowercase().chars().take(64).map(|c| if c == '_' { '-' } else { c }).collect()
    };
    let found = plain(found);
    let allowed = (found.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&found, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) between two words: the restricted
/// Damerau-Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut left_before = None;
    for (row, l) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut right_before = None;
        for (column, r) in right.iter().copied().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&last, column) + usize::from(l != r);
            let mut best = replaced.min(at(&last, column + 1) + 1).min(at(&current, column) + 1);
            if left_before == Some(r) && right_before == Some(l) && column > 0 {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
            right_before = Some(r);
        }
        before_last = last;
        last = current;
        left_before = Some(l);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_its_word_and_another_word_does_not() {
        let fields = ["name", "allow", "deny", "warn", "for", "when", "because"];
        for (found, expected) in [
            ("nmae", Some("name")),
            ("becuase", Some("because")),
            ("Allow", Some("allow")),
            ("alow", Some("allow")),
            ("wheen", Some("when")),
            ("permit", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, fields), expected, "{found}");
        }
        assert_eq!(nearest("p-265", ["P-256", "P-384"]), Some("P-256"));
        assert_eq!(nearest("service_account", ["service-account"]), Some("service-account"));
    }
}
