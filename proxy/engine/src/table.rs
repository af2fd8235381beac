//! The rule table of one workload: rows, linked and indexed. Immutable.

use std::{collections::BTreeSet, sync::Arc};

use hashbrown::HashMap;

use crate::{
    condition::{Condition, Subject},
    gate::GateProfile,
    identity::IdentitySet,
    matches::{Matches, MatchesBuilder},
    network::NetworkSet,
    ports::Port,
    route::Route,
    rows::{
        ClusterRows, Effect, Level, Pools, PortRow, Revocation, RouteId, Rule, RuleId, Scope,
        WorkloadRows,
    },
    stored::Rules,
    strings::{Name, Names, NamesBuilder},
};

/// Rows that don't make a table. The whole table is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// An index points nowhere.
    #[error("{what} {index} of {place} is not there, {count} are")]
    Dangling {
        /// What was pointed at.
        what: &'static str,
        /// The index.
        index: u32,
        /// Who pointed.
        place: String,
        /// How many there are.
        count: usize,
    },
    /// A rule whose level, effect and scope don't go together.
    #[error("rule {0}: {1}")]
    Contradiction(String, &'static str),
    /// Rules are not in the order of attribution.
    #[error("rule {0} stands behind one of a less specific level")]
    Order(String),
    /// More rows than an index can name.
    #[error("too many rows")]
    TooLarge,
}

/// Everything one workload enforces.
#[derive(Debug)]
pub struct Table {
    pub(crate) rules: Rules,
    pub(crate) matches: Matches,
    names: Names,
    route_names: Vec<(Name, Name)>,
    /// The workload's pools; its rules are the first `workload_rules`.
    pools: Pools,
    cluster_pools: Pools,
    workload_rules: usize,
    ports: HashMap<u16, Arc<Port>, foldhash::fast::RandomState>,
    other: Arc<Port>,
    pub(crate) revoked: Vec<Revocation>,
    pub(crate) cluster_networks: NetworkSet,
    pub(crate) probe_networks: NetworkSet,
    max_table_age_millis: Option<u64>,
    trust_domain: Box<str>,
}

/// What a rule or a route is called, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `kind.group/namespace/name`: of a rule the policy that it is one effect of.
    pub name: String,
    /// Object and field path.
    pub origin: String,
}

impl Table {
    /// Links the rows of both parts.
    pub fn new(mut cluster: ClusterRows, mut workload: WorkloadRows) -> Result<Self, TableError> {
        let mut builder = TableBuilder::new(std::mem::take(&mut workload.pools));
        for rule in std::mem::take(&mut workload.rules) {
            builder.rule(&rule)?;
        }
        for route in std::mem::take(&mut workload.routes) {
            builder.route(route)?;
        }
        builder.begin_cluster(std::mem::take(&mut cluster.pools));
        for rule in std::mem::take(&mut cluster.rules) {
            builder.rule(&rule)?;
        }
        builder.finish(cluster, workload)
    }

    /// What holds on a port: its own row, or the row of every other port.
    pub fn port(&self, number: u16) -> &Arc<Port> {
        self.ports.get(&number).unwrap_or(&self.other)
    }

    /// The ports that have a row of their own, in no order.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.keys().copied()
    }

    /// A rule by its position.
    pub fn rule(&self, id: RuleId) -> Option<Written> {
        let rule = self.rules.get(id)?;
        Some(self.written(rule.authorization, rule.origin))
    }

    /// A route by its position.
    pub fn route(&self, id: RouteId) -> Option<Written> {
        let (name, origin) = self.route_names.get(id as usize)?;
        Some(self.written(*name, *origin))
    }

    fn written(&self, name: Name, origin: Name) -> Written {
        Written { name: self.names.get(name), origin: self.names.get(origin) }
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// The age beyond which the table no longer decides.
    pub fn max_table_age_millis(&self) -> Option<u64> {
        self.max_table_age_millis
    }

    /// Our own trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The networks that the port's default calls the cluster's (W5).
    pub fn cluster_networks(&self) -> &NetworkSet {
        &self.cluster_networks
    }

    pub(crate) fn identities(&self, id: RuleId, index: u32) -> Option<&IdentitySet> {
        self.pools_of(id).identities.get(index as usize)
    }

    pub(crate) fn networks(&self, id: RuleId, index: u32) -> Option<&NetworkSet> {
        self.pools_of(id).networks.get(index as usize)
    }

    pub(crate) fn condition(&self, id: RuleId, index: u32) -> Option<&Condition> {
        self.pools_of(id).conditions.get(index as usize)
    }

    fn pools_of(&self, id: RuleId) -> &Pools {
        if (id as usize) < self.workload_rules { &self.pools } else { &self.cluster_pools }
    }

    fn link(&self, row: PortRow, hosts: &[Box<[Box<str>]>]) -> Result<Port, TableError> {
        let place = || format!("port {}", row.number);
        let check = |what, ids: &[u32], count: usize| match ids
            .iter()
            .find(|id| **id as usize >= count)
        {
            Some(index) => Err(TableError::Dangling { what, index: *index, place: place(), count }),
            None => Ok(()),
        };
        check("rule", &row.rules, self.workload_rules)?;
        check("route", &row.routes, self.matches.routes())?;
        let cluster = self.workload_rules..self.rules.len();
        let cluster = cluster.filter_map(|id| RuleId::try_from(id).ok());
        let mut profile = GateProfile {
            path_mode: row.path_mode,
            websocket: row.websocket,
            ..GateProfile::default()
        };
        let concern = row.rules.iter().copied().chain(cluster.clone());
        let (headers, keys) = self.names_read(concern, &row.routes);
        profile.policy_headers = headers;
        Ok(Port::new((self, hosts), row, cluster.collect(), profile).reading_keys(keys))
    }

    /// What the rules and routes read, sorted: headers, whose names the gate guards (G11, G14), and query keys.
    fn names_read(
        &self,
        rules: impl Iterator<Item = RuleId>,
        routes: &[RouteId],
    ) -> (Vec<String>, Vec<String>) {
        let (mut headers, mut keys) = (BTreeSet::new(), BTreeSet::new());
        let conditions = rules
            .filter_map(|id| self.rules.get(id).map(|rule| (id, rule)))
            .flat_map(|(id, rule)| self.rules.conditions(rule).iter().map(move |at| (id, *at)))
            .filter_map(|(id, index)| self.condition(id, index));
        for condition in conditions {
            match condition.subject() {
                Subject::Header(name) => headers.insert(&**name),
                Subject::Query(key) => keys.insert(&**key),
                Subject::Method | Subject::Host | Subject::Path => false,
            };
        }
        let attached = routes.iter().flat_map(|route| self.matches.of_route(*route));
        for entry in attached.filter_map(|id| self.matches.view(id)) {
            headers.extend(entry.headers.iter().map(|header| &*header.name));
            keys.extend(entry.query.iter().map(|item| &*item.name));
        }
        let owned = |names: BTreeSet<&str>| names.into_iter().map(ToOwned::to_owned).collect();
        (owned(headers), owned(keys))
    }
}

/// Makes a table of rows that come one by one, so that they need not all be there at once: the workload's rules and routes,
/// then the cluster's rules, then the rest.
#[derive(Debug)]
pub struct TableBuilder {
    rules: Rules,
    routes: MatchesBuilder,
    route_names: Vec<(Name, Name)>,
    names: NamesBuilder,
    pools: Pools,
    /// With how many rules there were before it.
    cluster: Option<(Pools, usize)>,
    before: Option<Level>,
}

impl TableBuilder {
    /// Begins with what the workload's rules share.
    pub fn new(pools: Pools) -> Self {
        Self {
            rules: Rules::default(),
            routes: MatchesBuilder::default(),
            route_names: Vec::new(),
            names: NamesBuilder::default(),
            pools,
            cluster: None,
            before: None,
        }
    }

    /// The next rule, in order of attribution.
    pub fn rule(&mut self, rule: &Rule) -> Result<(), TableError> {
        let name = || rule.authorization.to_string();
        let (pools, belongs) = match &self.cluster {
            Some((pools, _)) => (pools, rule.level == Level::Cluster),
            None => (&self.pools, rule.level != Level::Cluster),
        };
        if !belongs {
            return Err(TableError::Contradiction(name(), "its level belongs to the other part"));
        }
        if self.before > Some(rule.level) {
            return Err(TableError::Order(name()));
        }
        self.before = Some(rule.level);
        check_shape(rule).map_err(|problem| TableError::Contradiction(name(), problem))?;
        check(name, "identity set", rule.identities, pools.identities.len())?;
        check(name, "network set", rule.networks, pools.networks.len())?;
        for condition in &rule.conditions {
            check(name, "condition", Some(*condition), pools.conditions.len())?;
        }
        self.rules.push(rule, &mut self.names)
    }

    /// The next route, by age.
    pub fn route(&mut self, route: Route) -> Result<(), TableError> {
        let written = (self.names.add(&route.name)?, self.names.add(&route.origin)?);
        self.route_names.push(written);
        self.routes.add(route)
    }

    /// From here on rules are the cluster's, which share this.
    pub fn begin_cluster(&mut self, pools: Pools) {
        self.cluster = Some((pools, self.rules.len()));
        self.before = None;
    }

    /// Links everything. Of the two parts only what isn't rules, routes or pools is looked at: those came before.
    pub fn finish(
        mut self,
        cluster: ClusterRows,
        workload: WorkloadRows,
    ) -> Result<Table, TableError> {
        self.rules.shrink();
        self.routes.shrink();
        self.route_names.shrink_to_fit();
        let (cluster_pools, workload_rules) =
            self.cluster.unwrap_or_else(|| (Pools::default(), self.rules.len()));
        let MatchesBuilder { matches, hosts, .. } = self.routes;
        let mut table = Table {
            rules: self.rules,
            matches,
            names: self.names.finish(),
            route_names: self.route_names,
            pools: self.pools,
            cluster_pools,
            workload_rules,
            ports: HashMap::default(),
            other: Arc::default(),
            revoked: cluster.revoked,
            cluster_networks: cluster.cluster_networks,
            probe_networks: cluster.probe_networks,
            max_table_age_millis: cluster.max_table_age_millis,
            trust_domain: cluster.trust_domain,
        };
        for rule in table.rules.iter() {
            if let Scope::Selected(route) | Scope::Matched(route) = rule.scope {
                let name = || table.names.get(rule.authorization);
                check(name, "route", Some(route), table.matches.routes())?;
            }
        }
        table.other = Arc::new(table.link(workload.other, &hosts)?);
        for row in workload.ports {
            let number = row.number;
            let port = table.link(row, &hosts)?;
            table.ports.insert(number, Arc::new(port));
        }
        Ok(table)
    }
}

/// FAIL-CLOSED: what points nowhere refuses the table.
fn check(
    place: impl Fn() -> String,
    what: &'static str,
    index: Option<u32>,
    count: usize,
) -> Result<(), TableError> {
    match index {
        Some(index) if index as usize >= count => {
            Err(TableError::Dangling { what, index, place: place(), count })
        }
        _ => Ok(()),
    }
}

/// What the comments of `snapshot.proto` promise about a rule.
fn check_shape(rule: &Rule) -> Result<(), &'static str> {
    let on_route = rule.level == Level::Route;
    match (rule.scope, rule.effect) {
        // But for an unreadable policy on a route of `opaque` and `TLS` ports only (semantics T3).
        (Scope::Port, effect) if on_route && effect != Effect::Refuse => {
            Err("a rule of a route concerns that route")
        }
        (Scope::Selected(_), Effect::Deny | Effect::Require) => {
            Err("a Deny or Require of a route concerns every request that the route matches")
        }
        (Scope::Matched(_), Effect::Allow) => {
            Err("an Allow of a route concerns requests that selected it")
        }
        (Scope::Selected(_) | Scope::Matched(_), _) if !on_route => {
            Err("only a rule of a route concerns a route")
        }
        (Scope::Http, effect) if effect != Effect::Refuse => {
            Err("only an unreadable route concerns every HTTP request")
        }
        _ if rule.effect == Effect::Refuse
            && (rule.identities.is_some()
                || rule.networks.is_some()
                || !rule.conditions.is_empty()) =>
        {
            Err("a refuse row asks nobody for anything")
        }
        _ if rule.effect != Effect::Allow && rule.valid_until.is_some() => {
            Err("only an Allow ends")
        }
        _ if rule.anonymous_too && (rule.effect != Effect::Deny || rule.identities.is_none()) => {
            Err("only a Deny with identities meets anonymous peers too")
        }
        _ => Ok(()),
    }
}
