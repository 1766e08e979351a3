//! What the certificate of a CA may do, and what no other may have: path length and name constraints.

use super::{no, rule, then};
use crate::{
    chain::NameConstraints,
    lint::{Part, Row, Subject, view},
};

fn basic<'s>(s: &'s Subject<'_>) -> Option<&'s view::BasicConstraints> {
    s.view.basic.as_ref()?.value.as_ref()
}

/// What the profile sets for such a certificate.
fn wanted(s: &Subject<'_>) -> NameConstraints {
    let ca = s.request.profile.ca().filter(|_| s.request.content.is_ca);
    ca.map(crate::profile::CaSpec::constraints).unwrap_or_default()
}

pub(super) static ROWS: &[Row] = &[
    rule(
        Part::BasicConstraints,
        "basic_constraints_present",
        "RFC 5280 §4.2.1.9; own: it says so if it is no CA's",
        |s| no(s.view.basic.is_none(), "it has no basic constraints"),
    ),
    then(Part::BasicConstraints, "basic_constraints_readable", "RFC 5280 §4.2.1.9", |s| {
        no(s.view.basic.as_ref().is_some_and(|basic| basic.value.is_none()), "its basic constraints cannot be read")
    }),
    rule(Part::BasicConstraints, "basic_constraints_critical", "CA/B BR 7.1.2.7.8, RFC 5280 §4.2.1.9", |s| {
        no(s.view.basic.as_ref().is_some_and(|basic| !basic.critical), "its basic constraints are not critical")
    }),
    rule(Part::BasicConstraints, "not_a_ca", "RFC 5280 §4.2.1.9", |s| {
        no(!s.request.content.is_ca && basic(s).is_some_and(|basic| basic.ca), "it is a CA's")
    }),
    rule(Part::BasicConstraints, "no_path_length", "RFC 5280 §4.2.1.9", |s| {
        let has = basic(s).is_some_and(|basic| basic.path_length.is_some());
        no(!s.request.content.is_ca && has, "it has a path length")
    }),
    rule(Part::BasicConstraints, "ca_as_asked", "RFC 5280 §4.2.1.9", |s| {
        no(s.request.content.is_ca && basic(s).is_some_and(|basic| !basic.ca), "it is asked for as a CA's and is none")
    }),
    then(Part::BasicConstraints, "path_length_as_profile", "own: what the profile says and nothing else", |s| {
        let wanted = s.request.profile.ca().map(|ca| [ca.path_length]);
        let length = basic(s).and_then(|basic| basic.path_length.as_deref());
        let as_profile = wanted.is_some_and(|wanted| length == Some(&wanted));
        no(s.request.content.is_ca && !as_profile, "its path length is not its profile's")
    }),
    rule(Part::BasicConstraints, "path_length_of_issuer", "RFC 5280 §4.2.1.9", |s| {
        let ca = s.request.profile.ca().filter(|_| s.request.content.is_ca)?;
        let needed = u32::from(ca.path_length) + 1;
        let refused = s.issuer.path_length().is_some_and(|allowed| allowed < needed);
        no(refused, "its issuer allows no such CA below it")
    }),
    rule(Part::Constraints, "name_constraints_of_cas", "RFC 5280 §4.2.1.10", |s| {
        no(!s.request.content.is_ca && s.view.constraints.is_some(), "it has name constraints and is no CA's")
    }),
    then(Part::Constraints, "name_constraints_readable", "RFC 5280 §4.2.1.10", |s| {
        let unreadable = s.view.constraints.as_ref().is_some_and(|constraints| constraints.value.is_none());
        no(unreadable, "its name constraints cannot be read")
    }),
    rule(Part::Constraints, "name_constraints_critical", "RFC 5280 §4.2.1.10", |s| {
        let constraints = s.view.constraints.as_ref().filter(|_| s.request.content.is_ca);
        no(constraints.is_some_and(|constraints| !constraints.critical), "its name constraints are not critical")
    }),
    then(Part::Constraints, "name_constraints_as_profile", "own: what the profile says and nothing else", |s| {
        let there = s.view.constraints.as_ref().and_then(|constraints| constraints.value.as_ref());
        no(there.cloned().unwrap_or_default() != wanted(s), "its name constraints are not its profile's")
    }),
];
