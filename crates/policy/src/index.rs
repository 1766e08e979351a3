//! Which rules speak about a name, found by the name's own labels instead of by trying every rule.

use std::collections::BTreeMap;

use chancery_pki::{CommonName, DnsName, EmailAddress, Name, OtherName, Uri, profile::ObjectIdentifier};
use ipnet::IpNet;

use crate::{
    pattern::{CommonNamePattern, MailPattern, NamePattern, OtherNamePattern, SpiffePattern, UriPattern},
    rule::Target,
};

/// A rule's place in the file's order.
pub(crate) type RuleId = usize;

/// Rules by what they speak about.
#[derive(Debug, Default)]
pub(crate) struct Index {
    exact: BTreeMap<Box<str>, Vec<RuleId>>,
    one_above: BTreeMap<Box<str>, Vec<RuleId>>,
    any_above: BTreeMap<Box<str>, Vec<RuleId>>,
    wildcards: BTreeMap<Box<str>, Vec<RuleId>>,
    addresses: Vec<(IpNet, RuleId)>,
    spiffe: BTreeMap<Box<str>, Vec<(SpiffePattern, RuleId)>>,
    /// By the host at or below which the addresses lie.
    emails: BTreeMap<Box<str>, Vec<(MailPattern, RuleId)>>,
    /// By what the URIs begin with.
    uris: BTreeMap<Box<str>, Vec<(UriPattern, RuleId)>>,
    other_names: BTreeMap<ObjectIdentifier, Vec<(OtherNamePattern, RuleId)>>,
    /// By what the text begins with: the whole of it, or what stands before the star.
    common_names: BTreeMap<Box<str>, Vec<(CommonNamePattern, RuleId)>>,
    /// Rules without any selector: they speak about every name.
    every: Vec<RuleId>,
}

impl Index {
    pub(crate) fn insert(&mut self, rule: RuleId, target: &Target) {
        let Target {
            names,
            wildcards,
            addresses,
            spiffe,
            uris,
            emails,
            other_names,
            common_names,
            subject: _,
            ca: _,
            profiles: _,
            keys: _,
        } = target;
        if target.selects_every_name() {
            self.every.push(rule);
        }
        for pattern in names {
            let by = match pattern {
                NamePattern::Exact(_) => &mut self.exact,
                NamePattern::OneAbove(_) => &mut self.one_above,
                NamePattern::AnyAbove(_) => &mut self.any_above,
            };
            by.entry(pattern.base().as_str().into()).or_default().push(rule);
        }
        for base in wildcards {
            self.wildcards.entry(base.as_str().into()).or_default().push(rule);
        }
        self.addresses.extend(addresses.iter().map(|net| (*net, rule)));
        for pattern in spiffe {
            self.spiffe.entry(pattern.trust_domain().into()).or_default().push((pattern.clone(), rule));
        }
        for pattern in uris {
            self.uris.entry(pattern.prefix().into()).or_default().push((pattern.clone(), rule));
        }
        for pattern in emails {
            self.emails.entry(pattern.base().into()).or_default().push((pattern.clone(), rule));
        }
        for pattern in other_names {
            self.other_names.entry(pattern.type_id()).or_default().push((pattern.clone(), rule));
        }
        for pattern in common_names {
            self.common_names.entry(pattern.start().into()).or_default().push((pattern.clone(), rule));
        }
    }

    /// The rules that speak about `name`, in the file's order, each once.
    pub(crate) fn rules_for(&self, name: &Name) -> Vec<RuleId> {
        let mut found = self.every.clone();
        match name {
            Name::Dns(name) => {
                found.extend(at(&self.exact, name.as_str()));
                found.extend(parent(name).map_or(&[][..], |base| at(&self.one_above, base)));
                found.extend(ancestors(name).flat_map(|base| at(&self.any_above, base)));
            }
            Name::Wildcard(base) => found.extend(at(&self.wildcards, base.as_str())),
            Name::Ip(address) => {
                found.extend(self.addresses.iter().filter(|(net, _)| net.contains(address)).map(|(_, rule)| *rule));
            }
            Name::Spiffe(id) => {
                let patterns = self.spiffe.get(id.trust_domain()).map(Vec::as_slice).unwrap_or_default();
                found.extend(patterns.iter().filter(|(pattern, _)| pattern.matches(id)).map(|(_, rule)| *rule));
            }
            Name::Uri(uri) => found.extend(self.for_uri(uri)),
            Name::Email(address) => found.extend(self.for_email(address)),
            Name::Other(name) => found.extend(self.for_other_name(name)),
            Name::CommonName(name) => found.extend(self.for_common_name(name)),
        }
        in_order(found)
    }

    fn for_uri(&self, uri: &Uri) -> impl Iterator<Item = RuleId> {
        let patterns = self.uris.get(UriPattern::prefix_of(uri)).map(Vec::as_slice).unwrap_or_default();
        patterns.iter().filter(move |(pattern, _)| pattern.matches(uri)).map(|(_, rule)| *rule)
    }

    fn for_email(&self, address: &EmailAddress) -> impl Iterator<Item = RuleId> {
        let host = address.host();
        let bases = std::iter::successors(Some(host), |name| name.split_once('.').map(|(_, parent)| parent));
        let patterns = bases.filter_map(|base| self.emails.get(base)).flatten();
        patterns.filter(move |(pattern, _)| pattern.matches(address)).map(|(_, rule)| *rule)
    }

    fn for_other_name(&self, name: &OtherName) -> impl Iterator<Item = RuleId> {
        let patterns = self.other_names.get(&name.type_id()).map(Vec::as_slice).unwrap_or_default();
        patterns.iter().filter(move |(pattern, _)| pattern.matches(name)).map(|(_, rule)| *rule)
    }

    fn for_common_name(&self, name: &CommonName) -> impl Iterator<Item = RuleId> {
        let patterns = starts(name.as_str()).filter_map(|start| self.common_names.get(start)).flatten();
        patterns.filter(move |(pattern, _)| pattern.matches(name)).map(|(_, rule)| *rule)
    }

    /// The rules that speak about every name that `pattern` matches.
    pub(crate) fn covering_names(&self, pattern: &NamePattern) -> Vec<RuleId> {
        let mut found = self.every.clone();
        let base = pattern.base();
        match pattern {
            NamePattern::Exact(name) => return self.rules_for(&Name::Dns(name.clone())),
            NamePattern::OneAbove(_) => found.extend(at(&self.one_above, base.as_str())),
            NamePattern::AnyAbove(_) => {}
        }
        let at_or_below = std::iter::once(base.as_str()).chain(ancestors(base));
        found.extend(at_or_below.flat_map(|base| at(&self.any_above, base)));
        in_order(found)
    }

    pub(crate) fn covering_wildcard(&self, base: &DnsName) -> Vec<RuleId> {
        self.rules_for(&Name::Wildcard(base.clone()))
    }

    pub(crate) fn covering_range(&self, range: &IpNet) -> Vec<RuleId> {
        let covering = self.addresses.iter().filter(|(net, _)| net.contains(range)).map(|(_, rule)| *rule);
        in_order(self.every.iter().copied().chain(covering).collect())
    }

    pub(crate) fn covering_spiffe(&self, pattern: &SpiffePattern) -> Vec<RuleId> {
        let patterns = self.spiffe.get(pattern.trust_domain()).map(Vec::as_slice).unwrap_or_default();
        let covering = patterns.iter().filter(|(covering, _)| covering.covers(pattern)).map(|(_, rule)| *rule);
        in_order(self.every.iter().copied().chain(covering).collect())
    }
}

impl Index {
    /// As [`Self::covering_spiffe`], for the kinds of name that are few.
    pub(crate) fn covering_uri(&self, pattern: &UriPattern) -> Vec<RuleId> {
        let patterns = self.uris.get(pattern.prefix()).map(Vec::as_slice).unwrap_or_default();
        let covering = patterns.iter().filter(|(covering, _)| covering.covers(pattern)).map(|(_, rule)| *rule);
        in_order(self.every.iter().copied().chain(covering).collect())
    }

    pub(crate) fn covering_email(&self, pattern: &MailPattern) -> Vec<RuleId> {
        let bases = std::iter::successors(Some(pattern.base()), |name| name.split_once('.').map(|(_, parent)| parent));
        let patterns = bases.filter_map(|base| self.emails.get(base)).flatten();
        let covering = patterns.filter(|(covering, _)| covering.covers(pattern)).map(|(_, rule)| *rule);
        in_order(self.every.iter().copied().chain(covering).collect())
    }

    pub(crate) fn covering_other_name(&self, pattern: &OtherNamePattern) -> Vec<RuleId> {
        let patterns = self.other_names.get(&pattern.type_id()).map(Vec::as_slice).unwrap_or_default();
        let covering = patterns.iter().filter(|(covering, _)| covering.covers(pattern)).map(|(_, rule)| *rule);
        in_order(self.every.iter().copied().chain(covering).collect())
    }

    pub(crate) fn covering_common_name(&self, pattern: &CommonNamePattern) -> Vec<RuleId> {
        let patterns = starts(pattern.start()).filter_map(|start| self.common_names.get(start)).flatten();
        let covering = patterns.filter(|(covering, _)| covering.covers(pattern)).map(|(_, rule)| *rule);
        in_order(self.every.iter().copied().chain(covering).collect())
    }
}

/// Everything that a text begins with, from nothing to the whole.
fn starts(text: &str) -> impl Iterator<Item = &str> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).filter_map(|at| text.get(..at))
}

fn at<'i>(by: &'i BTreeMap<Box<str>, Vec<RuleId>>, key: &str) -> &'i [RuleId] {
    by.get(key).map(Vec::as_slice).unwrap_or_default()
}

fn in_order(mut rules: Vec<RuleId>) -> Vec<RuleId> {
    rules.sort_unstable();
    rules.dedup();
    rules
}

fn parent(name: &DnsName) -> Option<&str> {
    name.as_str().split_once('.').map(|(_, parent)| parent)
}

/// The name without its first label, without its first two, and so on.
fn ancestors(name: &DnsName) -> impl Iterator<Item = &str> {
    std::iter::successors(parent(name), |name| name.split_once('.').map(|(_, parent)| parent))
}
