//! What is left of a skill's network, credentials and commands that use the network.

use std::collections::BTreeSet;

use super::{Allowing, CredentialGrant, Grant};
use crate::denial::Capability;
use crate::manifest::{CredentialRequest, NetworkRequest, Runnable};
use crate::network::NetworkRule;
use crate::policy::Ceiling;

impl Allowing<'_> {
    /// Keeps the requests that manifest, project and every ceiling have in common.
    pub(super) fn network(&mut self, requests: &[NetworkRequest]) {
        let granted = self.project.map(|p| p.network.clone()).unwrap_or_default();
        for rule in requests.iter().flat_map(|request| &request.rules) {
            let under_project = common(&BTreeSet::from([rule.clone()]), &granted);
            let left = match self.ceilings {
                [] => BTreeSet::new(),
                ceilings => under(ceilings, under_project.clone(), |c| &c.network),
            };
            let addition = format!("network = [\"{rule}\"]");
            if !under_project.contains(rule) {
                let line = self.project_line(&addition);
                self.withhold(Capability::Network, &rule.to_string(), line);
            } else if !left.contains(rule) {
                let line = self.policy_line(&addition);
                self.withhold(Capability::Network, &rule.to_string(), line);
            }
            let private = match self.ceilings {
                [] => BTreeSet::new(),
                ceilings => under(ceilings, left.clone(), |c| &c.private),
            };
            self.grant.network.extend(left);
            self.grant.private.extend(private);
        }
    }

    /// Gives a secret where its host can be reached at all.
    pub(super) fn credential(&mut self, request: &CredentialRequest) {
        let granted = CredentialGrant {
            name: request.name.clone(),
            origin: request.origin.clone(),
            header: request.header.clone(),
            format: request.format.clone(),
        };
        self.named(
            Capability::Credentials,
            &request.name,
            "credentials",
            |p| &p.credentials,
            |c| c.credentials.has(&request.name),
            |grant: &mut Grant| {
                if grant
                    .network
                    .iter()
                    .any(|rule| rule.reaches(&granted.origin))
                {
                    grant.credentials.insert(granted);
                }
            },
        );
    }

    /// Whether a command that asks for the network may have it; the command itself runs without it where it may not.
    pub(super) fn online(&mut self, what: &Runnable) -> bool {
        let name = match what {
            Runnable::Project { name, .. } => name,
            Runnable::Program { program, .. } => program,
        };
        let mut online = false;
        self.named(
            Capability::Network,
            name,
            "online",
            |p| &p.online,
            |c| c.online.has(name),
            |_| online = true,
        );
        online
    }
}

fn under(
    ceilings: &[&Ceiling],
    rules: BTreeSet<NetworkRule>,
    of: impl Fn(&Ceiling) -> &Vec<NetworkRule>,
) -> BTreeSet<NetworkRule> {
    ceilings
        .iter()
        .fold(rules, |rules, ceiling| common(&rules, of(ceiling)))
}

fn common(left: &BTreeSet<NetworkRule>, right: &[NetworkRule]) -> BTreeSet<NetworkRule> {
    let of_one = |one: &NetworkRule| {
        right
            .iter()
            .filter_map(|other| one.both(other))
            .collect::<Vec<_>>()
    };
    left.iter().flat_map(of_one).collect()
}
