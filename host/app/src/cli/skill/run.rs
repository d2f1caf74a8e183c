//! `moat skill run`: one call under the grant of a repository, with everything that it did shown and nothing kept.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use capability::{Denial, Grant};
use catalog::Package;
use catalog::review::{Proposal, Recorded, Use, recording};
use clap::Args;
use driver::{
    About, CallMeter, CallRecord, House, Keys, Party, StepModels, StepNetwork, StepServices, View,
};
use flow::id::TreeId;
use flow::money::Reservation;
use project::Project;
use repo::{Diff, Mirror};
use sandbox::{Answer, Call, CallError, LoadError};
use serde_json::{Value, json};

use super::find_in;
use crate::cli::{Shared, run as item};
use crate::exit::Exit;
use crate::show;
use crate::show::page::Look;
use crate::show::text::{self, clean, one_line};
use crate::watch::Terminal;

/// Call a skill under the grant that this repository gives it. Nothing is changed: what it would change is shown.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A name of `moat skill list` or of `[skills]` in moat.toml, a folder, or a packaged component.
    skill: String,
    /// Its input, a JSON file.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The repository whose branch it sees.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Give it all that its manifest declares and the policy allows, whether this repository grants it or not; say what it needed, and propose a
    /// manifest and a grant for that. What nobody declares, and what the policy does not allow, is refused and noted.
    #[arg(long)]
    record: bool,
    /// Write the proposed manifest to a new file.
    #[arg(long, value_name = "FILE", requires = "record")]
    write: Option<PathBuf>,
}

/// Where a skill is called.
struct Place {
    house: Arc<House>,
    mirror: Mirror,
    tree: TreeId,
    project: Arc<Project>,
}

impl Run {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let package = find_in(shared, &self.skill, Some(&self.repo))?;
        let input = read_json(&self.input)?;
        let place = Place::of(shared, &self.repo)?;
        let grant = Arc::new(self.grant(&place, &package)?);
        for denial in grant.withheld() {
            eprintln!(
                "note: {}: {} is not granted; it would need {}",
                denial.capability,
                one_line(&denial.what, 160),
                clean(&denial.line)
            );
        }
        let made = place.call(&package, &grant, input, shared.json).await?;
        let proposal = if self.record {
            Some(self.propose(&place, &package, &made)?)
        } else {
            None
        };
        let called = match made.outcome {
            Ok(called) => called,
            Err(error) => {
                tell_printed(&error);
                if let Some(proposal) = &proposal {
                    tell_unanswered(&error, proposal, shared.json)?;
                }
                return Err(error);
            }
        };
        if shared.json {
            println!("{}", text::json(&called.value(proposal.as_ref()))?);
        } else {
            called.tell()?;
            if let Some(proposal) = &proposal {
                println!();
                print!(
                    "{}",
                    show::proposal::of(proposal).terminal(Look::of_stdout())
                );
            }
        }
        Ok(if called.answer.output.get("err").is_some() {
            Exit::Failed
        } else {
            Exit::Done
        })
    }

    fn grant(&self, place: &Place, package: &Package) -> anyhow::Result<Grant> {
        let manifest = &package.manifest;
        let project = place.project.grant_of(&manifest.name);
        let policy = &place.house.policy;
        Ok(if self.record {
            Grant::compute(manifest, Some(&recording(manifest, project)?), policy)
        } else {
            Grant::compute(manifest, project, policy)
        })
    }

    fn propose(&self, place: &Place, package: &Package, made: &Made) -> anyhow::Result<Proposal> {
        let manifest = &package.manifest;
        let answered = made.outcome.as_ref();
        let proposal = Proposal::of(
            manifest,
            place.project.grant_of(&manifest.name),
            &place.house.policy,
            Recorded {
                usage: &made.usage,
                denials: &made.denials,
                // A skill that gave up would have gone on with what it was refused.
                ended: answered.is_ok_and(|called| called.answer.output.get("err").is_none()),
            },
        )?;
        if let Some(path) = &self.write {
            // An author's file is never written over.
            let mut file = std::fs::File::create_new(path).with_context(|| {
                format!(
                    "{} cannot be made: name a file that is not there",
                    path.display()
                )
            })?;
            file.write_all(proposal.manifest.as_bytes())?;
        }
        Ok(proposal)
    }
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
}

impl Place {
    fn of(shared: &Shared, repository: &Path) -> anyhow::Result<Place> {
        let house = shared.house()?;
        let path = item::absolute(repository)?;
        let source = repo::Source::open(&path)?;
        let branch = source.current_branch()?;
        let mirror = Mirror::open_or_create(&house.mirror_dir(&path.display().to_string()))?;
        let tip = mirror.fetch(&source, &branch)?;
        let tree = mirror.tree_of(&tip)?;
        let moat = mirror
            .read(&tree, project::FILE, 1 << 20)?
            .with_context(|| format!("branch {branch} has no moat.toml: `moat init` writes one"))?;
        let project = driver::protected(&moat, branch)?;
        Ok(Place {
            house,
            mirror,
            tree,
            project: Arc::new(project),
        })
    }

    async fn call(
        &self,
        package: &Package,
        grant: &Arc<Grant>,
        input: Value,
        quiet: bool,
    ) -> anyhow::Result<Made> {
        let about = About {
            run: None,
            package,
            grant,
            project: &self.project,
        };
        let record = CallRecord::begin(&self.house, &about)?;
        let loaded = match self.house.sandbox.load(&package.component, grant).await {
            Ok(loaded) => loaded,
            Err(error) => {
                record.not_loaded(&error)?;
                return Made::not_loaded(package, grant, error);
            }
        };
        let directory = self.house.root().join("calls");
        let made = (self.house.views).of_grant(&directory, &self.mirror, &self.tree, grant);
        let view = made.await?;
        let meter = Arc::new(CallMeter::new(Reservation {
            money: self.project.budget.money,
            tokens: self.project.budget.tokens,
        }));
        let services = Arc::new(self.services(record, grant, &view, &meter, quiet));
        let call = Call {
            role: package.manifest.role,
            input,
            view: Some(sandbox::View {
                tree: view.tree(),
                writable: view.writable(grant),
            }),
            grant: grant.clone(),
            env: services.env.clone().into_iter().collect(),
            recording: None,
        };
        let answer = self
            .house
            .sandbox
            .call(&loaded, call, services.clone())
            .await;
        services.record.network(services.network.used());
        services.record.end(&answer)?;
        let peak = answer.as_ref().map_or(0, |one| one.usage.peak_memory_bytes);
        let (usage, denials) = (services.record.usage(peak), services.record.denials());
        let outcome = match answer {
            Ok(answer) => {
                let import = view.import(&self.mirror, &self.tree, grant)?;
                let limits = repo::DiffLimits::default();
                Ok(Called {
                    answer,
                    services,
                    meter,
                    diff: self.mirror.diff(&self.tree, &import.tree, &limits)?,
                })
            }
            Err(error) if has_run(&error) => Err(error.into()),
            Err(error) => return Err(error.into()),
        };
        Ok(Made {
            outcome,
            usage,
            denials,
        })
    }

    fn services(
        &self,
        record: CallRecord,
        grant: &Arc<Grant>,
        view: &View,
        meter: &Arc<CallMeter>,
        quiet: bool,
    ) -> StepServices {
        let watcher = Arc::new(Terminal::new(quiet));
        let keys = Keys::of_call();
        StepServices {
            record,
            account: None,
            keys: keys.clone(),
            house: self.house.clone(),
            project: self.project.clone(),
            env: driver::granted_env(&self.project, grant),
            tree: Some(view.tree()),
            scratch: view.scratch(),
            releases: None,
            models: StepModels::new(
                self.house.models.clone(),
                self.project.clone(),
                meter.clone(),
                keys,
                watcher.clone(),
            ),
            network: StepNetwork::new(&self.house.outbound, grant.clone()),
            wall: Duration::from_millis(grant.limits().wall_ms),
            watcher,
            party: Party::outside(None),
        }
    }
}

/// A call of which something is known, though perhaps no more than what its component imports.
struct Made {
    outcome: Result<Called, anyhow::Error>,
    usage: Use,
    denials: Vec<(Denial, u32)>,
}

impl Made {
    /// What is known of a component that was not loaded for what it imports; with any other error nothing is.
    fn not_loaded(package: &Package, grant: &Grant, error: LoadError) -> anyhow::Result<Made> {
        if !matches!(error, LoadError::NotGranted { .. }) {
            return Err(error.into());
        }
        let imports = sandbox::imports(&package.component)?;
        Ok(Made {
            outcome: Err(error.into()),
            usage: Use::detailed(),
            denials: imports
                .not_granted(grant)
                .into_iter()
                .map(|one| (one, 1))
                .collect(),
        })
    }
}

/// Whether the guest ran before it came to this, so that what was recorded is its doing.
fn has_run(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Trap { .. }
            | CallError::OutOfFuel
            | CallError::OutOfTime { .. }
            | CallError::OutOfMemory { .. }
            | CallError::DiskFull
            | CallError::TooManyHostCalls { .. }
            | CallError::OutputTooLarge { .. }
            | CallError::InvalidOutput { .. }
    )
}

/// What a skill printed before it failed is for its author alone: a panic's words, or the output that is no JSON.
fn tell_printed(error: &anyhow::Error) {
    let Some(CallError::Trap { printed, .. } | CallError::InvalidOutput { printed, .. }) =
        error.downcast_ref::<CallError>()
    else {
        return;
    };
    if !printed.trim().is_empty() {
        eprintln!("it printed:\n{}\n", clean(printed.trim_end()));
    }
}

fn tell_unanswered(error: &anyhow::Error, proposal: &Proposal, json: bool) -> anyhow::Result<()> {
    if json {
        let value = json!({"error": clean(&error.to_string()), "record": proposal});
        println!("{}", text::json(&value)?);
    } else {
        print!(
            "{}",
            show::proposal::of(proposal).terminal(Look::of_stdout())
        );
    }
    Ok(())
}

/// A call that has been answered.
struct Called {
    answer: Answer,
    services: Arc<StepServices>,
    meter: Arc<CallMeter>,
    diff: Diff,
}

impl Called {
    fn value(&self, proposal: Option<&Proposal>) -> Value {
        let (usage, spend) = (&self.answer.usage, self.meter.spend());
        let denials: Vec<_> = self
            .answer
            .denials
            .iter()
            .map(
                |(denial, times)| json!({"what": denial.what, "line": denial.line, "times": times}),
            )
            .collect();
        let mut value = json!({"output": self.answer.output, "denials": denials, "diff": self.diff.patch, "fuel": usage.fuel, "host-calls": usage.host_calls,
            "peak-memory-bytes": usage.peak_memory_bytes, "wall-ms": usage.wall.as_millis() as u64, "model-calls": spend.calls, "tokens": spend.tokens,
            "money-micros": spend.money, "transcript": self.answer.transcript});
        if let Some(proposal) = proposal {
            value["record"] = json!(proposal);
        }
        value
    }

    fn tell(&self) -> anyhow::Result<()> {
        let (usage, spend) = (&self.answer.usage, self.meter.spend());
        eprintln!();
        println!("{}", text::json_lines(&self.answer.output)?);
        for (denial, times) in &self.answer.denials {
            println!(
                "denied: {} ({times}×); it would need {}",
                one_line(&denial.what, 160),
                clean(&denial.line)
            );
        }
        if !self.diff.patch.is_empty() {
            println!("\nIt would change:\n{}", clean(&self.diff.patch));
        }
        println!(
            "took {} ms, {} host calls, {} MiB at most",
            usage.wall.as_millis(),
            usage.host_calls,
            usage.peak_memory_bytes >> 20
        );
        if spend.calls > 0 {
            println!(
                "models: {} calls, {} tokens, {}",
                spend.calls, spend.tokens, spend.money
            );
        }
        if let Some(trouble) = self.services.models.trouble() {
            println!("models: {}", one_line(&trouble.what, 300));
        }
        Ok(())
    }
}
