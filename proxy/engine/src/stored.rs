//! The rules as a table keeps them: forty bytes each, what is long or rare beside them.

use crate::{
    rows::{Effect, Level, Rule, RuleId, Scope},
    strings::{Name, NamesBuilder, index},
    table::TableError,
    time::Timestamp,
};

/// Not asked.
const NONE: u32 = u32::MAX;

/// A [`Rule`] of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) effect: Effect,
    pub(crate) level: Level,
    pub(crate) audit: bool,
    pub(crate) anonymous_too: bool,
    pub(crate) scope: Scope,
    identities: u32,
    networks: u32,
    /// Where its conditions begin in the list of all: how many, then each.
    conditions: u32,
    /// Its place among the ends.
    valid_until: u32,
    pub(crate) authorization: Name,
    pub(crate) origin: Name,
}

impl Stored {
    pub(crate) fn identities(&self) -> Option<u32> {
        some(self.identities)
    }

    pub(crate) fn networks(&self) -> Option<u32> {
        some(self.networks)
    }

    pub(crate) fn has_conditions(&self) -> bool {
        self.conditions != NONE
    }

    pub(crate) fn ends(&self) -> bool {
        self.valid_until != NONE
    }
}

fn some(index: u32) -> Option<u32> {
    (index != NONE).then_some(index)
}

/// All rules of a table: the workload's first.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    all: Vec<Stored>,
    conditions: Vec<u32>,
    ends: Vec<Timestamp>,
}

impl Rules {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.all.iter()
    }

    pub(crate) fn get(&self, id: RuleId) -> Option<&Stored> {
        self.all.get(id as usize)
    }

    /// Indices into the conditions of the part it is of.
    pub(crate) fn conditions(&self, rule: &Stored) -> &[u32] {
        let list = some(rule.conditions).and_then(|start| self.conditions.get(start as usize..));
        let Some((count, rest)) = list.and_then(<[u32]>::split_first) else { return &[] };
        rest.get(..*count as usize).unwrap_or_default()
    }

    pub(crate) fn valid_until(&self, rule: &Stored) -> Option<Timestamp> {
        some(rule.valid_until).and_then(|place| self.ends.get(place as usize)).copied()
    }

    pub(crate) fn push(&mut self, rule: &Rule, names: &mut NamesBuilder) -> Result<(), TableError> {
        index(self.all.len())?;
        let stored = Stored {
            effect: rule.effect,
            level: rule.level,
            audit: rule.audit,
            anonymous_too: rule.anonymous_too,
            scope: rule.scope,
            identities: rule.identities.unwrap_or(NONE),
            networks: rule.networks.unwrap_or(NONE),
            conditions: self.push_conditions(&rule.conditions)?,
            valid_until: self.push_end(rule.valid_until)?,
            authorization: names.add(&rule.authorization)?,
            origin: names.add(&rule.origin)?,
        };
        self.all.push(stored);
        Ok(())
    }

    pub(crate) fn shrink(&mut self) {
        self.all.shrink_to_fit();
        self.conditions.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    fn push_conditions(&mut self, conditions: &[u32]) -> Result<u32, TableError> {
        if conditions.is_empty() {
            return Ok(NONE);
        }
        let start = index(self.conditions.len())?;
        self.conditions.push(index(conditions.len())?);
        self.conditions.extend_from_slice(conditions);
        Ok(start)
    }

    fn push_end(&mut self, end: Option<Timestamp>) -> Result<u32, TableError> {
        let Some(end) = end else { return Ok(NONE) };
        self.ends.push(end);
        index(self.ends.len() - 1)
    }
}
