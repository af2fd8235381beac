//! Routes and their matches.

use engine::{
    gate,
    route::{Match, NamedMatch, PathTest, PathText, Route, RouteKind, ValueTest},
};

use super::{Result, header_name, lookup, path_prefix, pattern, policy_path, unspecified};
use crate::{SnapshotError, generated as wire};

pub(crate) fn route(route: wire::Route) -> Result<Route> {
    let wire::Route { name, origin, kind, hosts, rules } = route;
    let kind = lookup(
        kind,
        &format!("{name}.kind"),
        &[
            (wire::RouteKind::Http as i32, RouteKind::Http),
            (wire::RouteKind::Grpc as i32, RouteKind::Grpc),
        ],
    )?;
    for host in &hosts {
        let literal = host.strip_prefix("*.").unwrap_or(host);
        let normal = gate::normal_host(literal).map_err(|flaw| {
            SnapshotError::invalid(format!("{name}.hosts"), format!("`{host}`: {flaw}"))
        })?;
        if normal != literal {
            return Err(SnapshotError::invalid(
                format!("{name}.hosts"),
                format!("`{host}` is not in normal form"),
            ));
        }
    }
    let rules = rules
        .into_iter()
        .map(|wire::RouteRule { matches }| {
            if matches.is_empty() {
                return Err(SnapshotError::invalid(format!("{name}.rules"), "a rule has no match"));
            }
            matches.into_iter().map(read_match).collect()
        })
        .collect::<Result<_>>()?;
    Ok(Route {
        name: name.into(),
        origin: origin.into(),
        kind,
        hosts: hosts.into_iter().map(Into::into).collect(),
        rules,
    })
}

fn read_match(entry: wire::Match) -> Result<Match> {
    let wire::Match { path_test, path, method, headers, query } = entry;
    let path = match wire::PathTest::try_from(path_test) {
        Ok(wire::PathTest::Exact) => {
            policy_path(&path)?;
            PathTest::Exact(PathText::new(&path))
        }
        Ok(wire::PathTest::Prefix) => {
            path_prefix(&path)?;
            PathTest::Prefix(PathText::new(&path))
        }
        Ok(wire::PathTest::Regex) => PathTest::Regex(pattern("match.path", &path)?),
        Ok(wire::PathTest::LastSegment) => {
            if path.is_empty() || path.contains('/') {
                return Err(SnapshotError::invalid(
                    "match.path",
                    format!("`{path}` is no segment"),
                ));
            }
            PathTest::LastSegment(PathText::new(&path))
        }
        _ => return Err(unspecified("match.path_test")),
    };
    let names =
        headers.iter().map(|header| header_name(&header.name)).collect::<Result<Vec<_>>>()?;
    let headers = headers
        .iter()
        .zip(names)
        .map(|(header, name)| Ok(NamedMatch { name, test: value_test(header)? }))
        .collect::<Result<_>>()?;
    let query = query
        .iter()
        .map(|item| Ok(NamedMatch { name: item.name.as_str().into(), test: value_test(item)? }))
        .collect::<Result<_>>()?;
    Ok(Match { path, method: (!method.is_empty()).then(|| method.into()), headers, query })
}

fn value_test(item: &wire::NamedMatch) -> Result<ValueTest> {
    match wire::ValueTest::try_from(item.test) {
        Ok(wire::ValueTest::Exact) => Ok(ValueTest::Exact(item.value.as_str().into())),
        Ok(wire::ValueTest::Regex) => Ok(ValueTest::Regex(pattern("match.value", &item.value)?)),
        _ => Err(unspecified("match.test")),
    }
}
