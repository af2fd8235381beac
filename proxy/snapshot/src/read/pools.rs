//! What rules share: identities, networks, conditions.

use engine::{
    condition::{Condition, Subject, Test},
    identity::{IdentityForm, IdentitySet},
    network::NetworkSet,
    rows,
};
use ipnet::IpNet;

use super::{Result, header_name, path_prefix, policy_path, unspecified};
use crate::{SnapshotError, generated as wire};

pub(super) fn pools(pools: wire::Pools) -> Result<rows::Pools> {
    let wire::Pools { identities, networks, conditions } = pools;
    Ok(rows::Pools {
        identities: identities.into_iter().map(identity_set).collect::<Result<_>>()?,
        networks: networks.iter().map(network_set).collect::<Result<_>>()?,
        conditions: conditions.into_iter().map(condition).collect::<Result<_>>()?,
    })
}

fn identity_set(set: wire::IdentitySet) -> Result<IdentitySet> {
    let wire::IdentitySet { any_of, except } = set;
    let forms = |list: Vec<String>| -> Result<Vec<IdentityForm>> {
        list.iter()
            .map(|form| {
                IdentityForm::parse(form)
                    .map_err(|error| SnapshotError::invalid("identities", error))
            })
            .collect()
    };
    Ok(IdentitySet::new(forms(any_of)?, forms(except)?))
}

fn network_set(set: &wire::NetworkSet) -> Result<NetworkSet> {
    let wire::NetworkSet { any_of } = set;
    let blocks = any_of.iter().map(|wire::NetworkBlock { cidr, except }| {
        let holes =
            except.iter().map(|hole| network("networks.except", hole)).collect::<Result<_>>()?;
        Ok((network("networks.cidr", cidr)?, holes))
    });
    Ok(NetworkSet::new(blocks.collect::<Result<Vec<_>>>()?))
}

pub(super) fn plain_networks(place: &str, list: &[String]) -> Result<NetworkSet> {
    let blocks = list.iter().map(|cidr| Ok((network(place, cidr)?, Vec::new())));
    Ok(NetworkSet::new(blocks.collect::<Result<Vec<_>>>()?))
}

/// A CIDR in normal form: parsed and printed it is itself.
fn network(place: &str, cidr: &str) -> Result<IpNet> {
    let network: IpNet =
        cidr.parse().map_err(|_| SnapshotError::invalid(place, format!("`{cidr}` is no CIDR")))?;
    let mapped = matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
    if network.trunc().to_string() != cidr || mapped {
        return Err(SnapshotError::invalid(place, format!("`{cidr}` is not in normal form")));
    }
    Ok(network)
}

fn condition(condition: wire::Condition) -> Result<Condition> {
    let wire::Condition { subject, name, test, values } = condition;
    let place = || format!("condition on `{name}`");
    let subject = match wire::ConditionSubject::try_from(subject) {
        Ok(wire::ConditionSubject::Header) => Subject::Header(header_name(&name)?),
        Ok(wire::ConditionSubject::Query) => Subject::Query(name.as_str().into()),
        Ok(wire::ConditionSubject::Method) => Subject::Method,
        Ok(wire::ConditionSubject::Host) => Subject::Host,
        Ok(wire::ConditionSubject::Path) => Subject::Path,
        _ => return Err(unspecified("condition.subject")),
    };
    let named = matches!(subject, Subject::Header(_) | Subject::Query(_));
    if !named && !name.is_empty() {
        return Err(SnapshotError::invalid(place(), "only headers and query keys have a name"));
    }
    if matches!(subject, Subject::Path) {
        values.iter().try_for_each(|value| policy_path(value))?;
    }
    let several = || -> Result<Box<[Box<str>]>> {
        if values.is_empty() {
            return Err(SnapshotError::invalid(place(), "an empty list is no list"));
        }
        Ok(values.iter().map(|value| value.as_str().into()).collect())
    };
    let none = |test| {
        if values.is_empty() && named {
            Ok(test)
        } else {
            Err(SnapshotError::invalid(
                place(),
                "existence is asked of headers and query keys, without values",
            ))
        }
    };
    let test = match wire::ConditionTest::try_from(test) {
        Ok(wire::ConditionTest::In) => Test::In(several()?),
        Ok(wire::ConditionTest::NotIn) => Test::NotIn(several()?),
        Ok(wire::ConditionTest::Prefix) => match (&subject, values.as_slice()) {
            (Subject::Header(_) | Subject::Query(_) | Subject::Path, [value]) => {
                Test::Prefix(prefix_value(&subject, value)?)
            }
            _ => {
                return Err(SnapshotError::invalid(
                    place(),
                    "a prefix is one value of a path, header or query key",
                ));
            }
        },
        Ok(wire::ConditionTest::Exists) => none(Test::Exists)?,
        Ok(wire::ConditionTest::Absent) => none(Test::Absent)?,
        _ => return Err(unspecified("condition.test")),
    };
    Ok(Condition::new(subject, test))
}

fn prefix_value(subject: &Subject, value: &str) -> Result<Box<str>> {
    if matches!(subject, Subject::Path) {
        path_prefix(value)?;
    }
    Ok(value.into())
}
