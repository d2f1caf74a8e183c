//! The order of things, apart from how they are done.

/// What a rollout needs; the host's `release` interface gives it.
pub trait Releases {
    /// The current release and its commit.
    fn current(&mut self) -> Result<Option<(String, String)>, String>;
    /// Stages the merged tree and returns its name.
    fn stage(&mut self) -> Result<String, String>;
    /// Makes a release current.
    fn activate(&mut self, name: &str) -> Result<(), String>;
    /// Stops the service.
    fn deactivate(&mut self) -> Result<(), String>;
    /// Probes once.
    fn probe(&mut self) -> Result<Health, String>;
    /// Waits; the time since the start in milliseconds is returned by `elapsed_ms`.
    fn wait_ms(&mut self, ms: u64);
    /// Milliseconds since the start.
    fn elapsed_ms(&mut self) -> u64;
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// As expected.
    Healthy,
    /// It answers otherwise.
    Unhealthy(String),
    /// It does not answer yet.
    Unreachable,
    /// It is gone.
    Exited,
}

/// How a rollout ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// This release is current and healthy.
    Healthy(String),
    /// It was not; `to` is current and healthy again, or nothing is.
    RolledBack {
        from: String,
        to: Option<String>,
        reason: String,
    },
}

/// Between two probes.
const PAUSE_MS: u64 = 100;

/// A service that answers right once may still fall over: it is believed after this many in a row.
const HEALTHY_IN_A_ROW: u32 = 3;

/// Brings a commit into service. Called again after a crash it ends the same.
///
/// # Errors
/// When the host fails, or when neither the new nor the old release is healthy.
pub fn roll_out(
    releases: &mut impl Releases,
    commit: &str,
    patience_ms: u64,
) -> Result<End, String> {
    let before = releases.current()?;
    if let Some((name, active)) = &before {
        if active == commit && watch(releases, patience_ms)?.is_ok() {
            return Ok(End::Healthy(name.clone()));
        }
    }
    let name = releases.stage()?;
    releases.activate(&name)?;
    let reason = match watch(releases, patience_ms)? {
        Ok(()) => return Ok(End::Healthy(name)),
        Err(reason) => reason,
    };
    let previous = before
        .map(|(name, _)| name)
        .filter(|previous| *previous != name);
    match previous {
        None => {
            releases.deactivate()?;
            Ok(End::RolledBack {
                from: name,
                to: None,
                reason,
            })
        }
        Some(previous) => {
            releases.activate(&previous)?;
            match watch(releases, patience_ms)? {
                Ok(()) => Ok(End::RolledBack {
                    from: name,
                    to: Some(previous),
                    reason,
                }),
                Err(also) => Err(format!(
                    "{name} is unhealthy ({reason}), and so is {previous} after the rollback ({also})"
                )),
            }
        }
    }
}

/// Probes until the service is believed or patience is out. The inner error says why it is not healthy.
fn watch(releases: &mut impl Releases, patience_ms: u64) -> Result<Result<(), String>, String> {
    let deadline = releases.elapsed_ms().saturating_add(patience_ms);
    let mut row = 0;
    loop {
        let why = match releases.probe()? {
            Health::Healthy => {
                row += 1;
                if row == HEALTHY_IN_A_ROW {
                    return Ok(Ok(()));
                }
                String::from("it did not stay healthy")
            }
            Health::Exited => return Ok(Err("its process ended".into())),
            Health::Unhealthy(why) => {
                row = 0;
                why
            }
            Health::Unreachable => {
                row = 0;
                String::from("it does not answer")
            }
        };
        if releases.elapsed_ms() >= deadline {
            return Ok(Err(why));
        }
        releases.wait_ms(PAUSE_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service whose releases behave as the script says.
    struct Simulated {
        active: Option<String>,
        behaviour: Vec<(&'static str, Health)>,
        slow_ms: u64,
        activated_at: u64,
        now: u64,
        log: Vec<String>,
    }

    impl Simulated {
        fn new(active: Option<&str>, behaviour: &[(&'static str, Health)]) -> Simulated {
            Simulated {
                active: active.map(str::to_owned),
                behaviour: behaviour.to_vec(),
                slow_ms: 0,
                activated_at: 0,
                now: 0,
                log: vec![],
            }
        }
    }

    impl Releases for Simulated {
        fn current(&mut self) -> Result<Option<(String, String)>, String> {
            Ok(self.active.clone().map(|name| (name.clone(), name)))
        }
        fn stage(&mut self) -> Result<String, String> {
            Ok("new".into())
        }
        fn activate(&mut self, name: &str) -> Result<(), String> {
            self.log.push(format!("activate {name}"));
            self.active = Some(name.into());
            self.activated_at = self.now;
            Ok(())
        }
        fn deactivate(&mut self) -> Result<(), String> {
            self.log.push("deactivate".into());
            self.active = None;
            Ok(())
        }
        fn probe(&mut self) -> Result<Health, String> {
            if self.now < self.activated_at + self.slow_ms {
                return Ok(Health::Unreachable);
            }
            let active = self.active.clone().unwrap_or_default();
            Ok(self
                .behaviour
                .iter()
                .find(|(name, _)| *name == active)
                .map_or(Health::Exited, |(_, health)| health.clone()))
        }
        fn wait_ms(&mut self, ms: u64) {
            self.now += ms;
        }
        fn elapsed_ms(&mut self) -> u64 {
            self.now
        }
    }

    #[test]
    fn a_slow_but_healthy_release_stays() {
        let mut service = Simulated::new(Some("old"), &[("new", Health::Healthy)]);
        service.slow_ms = 900;
        assert_eq!(
            roll_out(&mut service, "new", 2000),
            Ok(End::Healthy("new".into()))
        );
    }

    #[test]
    fn an_unhealthy_release_gives_way_to_the_one_before() {
        let mut service = Simulated::new(
            Some("old"),
            &[
                ("old", Health::Healthy),
                ("new", Health::Unhealthy("500".into())),
            ],
        );
        let end = roll_out(&mut service, "new", 500);
        assert_eq!(
            end,
            Ok(End::RolledBack {
                from: "new".into(),
                to: Some("old".into()),
                reason: "500".into()
            })
        );
        assert_eq!(service.active.as_deref(), Some("old"));
    }

    #[test]
    fn a_first_release_that_dies_leaves_nothing_running() {
        let mut service = Simulated::new(None, &[]);
        let end = roll_out(&mut service, "new", 500);
        assert_eq!(
            end,
            Ok(End::RolledBack {
                from: "new".into(),
                to: None,
                reason: "its process ended".into()
            })
        );
        assert_eq!(service.log, ["activate new", "deactivate"]);
    }

    #[test]
    fn two_unhealthy_releases_are_a_failure_for_people() {
        let mut service = Simulated::new(Some("old"), &[("new", Health::Unreachable)]);
        assert!(roll_out(&mut service, "new", 300).is_err());
    }

    #[test]
    fn a_repeated_rollout_of_a_healthy_release_changes_nothing() {
        let mut service = Simulated::new(Some("new"), &[("new", Health::Healthy)]);
        assert_eq!(
            roll_out(&mut service, "new", 500),
            Ok(End::Healthy("new".into()))
        );
        assert!(service.log.is_empty());
    }
}
