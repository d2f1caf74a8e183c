//! The skill itself: the rollout over the host's releases.

use std::time::{Duration, Instant};

use moat_sdk::deploy::host::release;
use moat_sdk::deploy::{Deployment, Guest, Rollback, SkillError, Target, note};

use crate::rollout::{End, Health, Releases, roll_out};

struct Skill;

impl Guest for Skill {
    fn deploy(target: Target) -> Result<Deployment, SkillError> {
        let mut host = Host(Instant::now());
        match roll_out(&mut host, &target.commit, target.patience_ms) {
            Ok(End::Healthy(name)) => Ok(Deployment::Healthy(name)),
            Ok(End::RolledBack { from, to, reason }) => {
                Ok(Deployment::RolledBack(Rollback { from, to, reason }))
            }
            Err(why) => Err(SkillError::Failed(why)),
        }
    }
}

struct Host(Instant);

fn told<T>(result: Result<T, release::ReleaseError>) -> Result<T, String> {
    result.map_err(|error| match error {
        release::ReleaseError::Denied => "releases are not granted".into(),
        release::ReleaseError::NotConfigured => "the project configures no [deploy]".into(),
        release::ReleaseError::NotFound => "there is no such release".into(),
        release::ReleaseError::Failed(why) => why,
    })
}

impl Releases for Host {
    fn current(&mut self) -> Result<Option<(String, String)>, String> {
        let versions = told(release::versions())?;
        Ok(versions
            .into_iter()
            .find(|version| version.active)
            .map(|version| (version.name, version.commit)))
    }

    fn stage(&mut self) -> Result<String, String> {
        note("staging the merged tree");
        told(release::stage())
    }

    fn activate(&mut self, name: &str) -> Result<(), String> {
        note(format!("activating {name}"));
        told(release::activate(name))
    }

    fn deactivate(&mut self) -> Result<(), String> {
        told(release::deactivate())
    }

    fn probe(&mut self) -> Result<Health, String> {
        Ok(match told(release::probe())? {
            release::Health::Healthy => Health::Healthy,
            release::Health::Unhealthy(why) => Health::Unhealthy(why),
            release::Health::Unreachable => Health::Unreachable,
            release::Health::Exited => Health::Exited,
        })
    }

    fn wait_ms(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    fn elapsed_ms(&mut self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

moat_sdk::deploy::export!(Skill with_types_in moat_sdk::deploy);
