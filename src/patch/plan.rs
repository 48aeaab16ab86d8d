//! What a rollout is to do: shards in their groups, the nodes of each, the steps of a node.
//!
//! Nouns, and what is to be said before it begins. It knows neither addresses nor commands: those stay in the fleet
//! file, and nothing secret gets into the journal with the plan.

use serde::{Deserialize, Serialize};

/// What the rollout is for; names the hook that is run on each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Patch every node.
    Patch,
    /// Undo a patch where one was begun.
    RollBack,
    /// The drill: restart nodes.
    Reboot,
}

impl Kind {
    /// The word in files and texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patch => "patch",
            Self::RollBack => "roll-back",
            Self::Reboot => "reboot",
        }
    }
}

/// A command of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Before the node's clients are let go: take it out of the load balancer.
    BeforeDrain,
    /// The work itself: patch, roll back or reboot.
    Work,
    /// When the node is back and in sync.
    AfterReady,
}

/// A step of a node, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The other node becomes primary.
    Switchover,
    /// The hook before the drain.
    BeforeDrain,
    /// The proxy lets its clients go, and ends.
    Drain,
    /// The work itself.
    Work,
    /// Until the node is back and in sync.
    Sync,
    /// The hook after it.
    AfterReady,
    /// The node that was primary at first becomes primary again.
    SwitchBack,
}

impl Step {
    /// The word in files and texts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Switchover => "switchover",
            Self::BeforeDrain => "before-drain",
            Self::Drain => "drain",
            Self::Work => "work",
            Self::Sync => "sync",
            Self::AfterReady => "after-ready",
            Self::SwitchBack => "switch-back",
        }
    }

    /// The hook that the step runs.
    pub fn hook(self) -> Option<Hook> {
        match self {
            Self::BeforeDrain => Some(Hook::BeforeDrain),
            Self::Work => Some(Hook::Work),
            Self::AfterReady => Some(Hook::AfterReady),
            _ => None,
        }
    }
}

/// Everything that is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What for.
    pub kind: Kind,
    /// In the order of the fleet file; shards of one group one after another.
    pub shards: Vec<ShardPlan>,
}

/// What is to be done to a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPlan {
    /// Its group.
    pub group: String,
    /// Its name, unique in the fleet.
    pub name: String,
    /// Its nodes, one or two.
    pub nodes: Vec<String>,
    /// Which of them are to be done: indices into `nodes`.
    pub targets: Vec<usize>,
    /// The optional steps.
    pub with: Steps,
}

/// The optional steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// There is a hook before the drain.
    pub before_drain: bool,
    /// The proxy lets its clients go and ends; the work starts it again.
    pub drain: bool,
    /// There is a hook after the node is back.
    pub after_ready: bool,
    /// The first primary becomes primary again at the end.
    pub switch_back: bool,
    /// The work restarts Redis: the node is not back before another process runs there.
    pub restarts: bool,
    /// As rude as a crash: neither switchover nor drain. Only for drills.
    pub rude: bool,
    /// How long the node is to stay away, in milliseconds; told to the command. Only for drills.
    #[serde(default)]
    pub blip_ms: u64,
}

impl ShardPlan {
    /// Whether there is another node to take over.
    pub fn is_pair(&self) -> bool {
        self.nodes.len() == 2
    }

    /// The name of a node.
    pub fn node(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("?", String::as_str)
    }

    /// Steps of one node, when it is (or is not) primary.
    pub fn steps(&self, primary: bool) -> Vec<Step> {
        let with = self.with;
        let polite = !with.rude;
        let steps = [
            (Step::Switchover, polite && primary && self.is_pair()),
            (Step::BeforeDrain, polite && with.before_drain),
            (Step::Drain, polite && with.drain && self.is_pair()),
            (Step::Work, true),
            (Step::Sync, true),
            (Step::AfterReady, with.after_ready),
        ];
        steps.into_iter().filter_map(|(step, wanted)| wanted.then_some(step)).collect()
    }
}

impl Plan {
    /// The place of the shard with this name.
    pub fn shard(&self, name: &str) -> Option<usize> {
        self.shards.iter().position(|shard| shard.name == name)
    }

    /// How many nodes are to be done.
    pub fn nodes(&self) -> usize {
        self.shards.iter().map(|shard| shard.targets.len()).sum()
    }

    /// What people should know before it begins.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for shard in &self.shards {
            if !shard.is_pair() {
                warnings.push(format!(
                    "{}: a single node: its clients are held while it is down, and get errors when that takes longer \
                     than the proxy's hold-time; its proxy is not drained, so the {} command must leave it running",
                    shard.name,
                    self.kind.name()
                ));
            }
            if shard.with.rude {
                warnings.push(format!(
                    "{}: rude: no switchover and no drain first; writes that were not replicated yet may be lost",
                    shard.name
                ));
            }
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(nodes: &[&str], with: Steps) -> ShardPlan {
        let nodes: Vec<String> = nodes.iter().map(|name| (*name).to_owned()).collect();
        ShardPlan { group: "g".into(), name: "s".into(), targets: (0..nodes.len()).collect(), nodes, with }
    }

    #[test]
    fn a_primary_is_switched_away_first_and_a_single_node_is_not_drained() {
        let all = Steps {
            before_drain: true,
            drain: true,
            after_ready: true,
            switch_back: true,
            restarts: true,
            rude: false,
            blip_ms: 0,
        };
        let names = |steps: Vec<Step>| steps.into_iter().map(Step::name).collect::<Vec<_>>().join(" ");
        let pair = shard(&["a", "b"], all);
        assert_eq!(names(pair.steps(true)), "switchover before-drain drain work sync after-ready");
        assert_eq!(names(pair.steps(false)), "before-drain drain work sync after-ready");
        assert_eq!(names(shard(&["a"], all).steps(true)), "before-drain work sync after-ready");
        assert_eq!(names(shard(&["a", "b"], Steps { rude: true, ..all }).steps(true)), "work sync after-ready");
    }

    #[test]
    fn what_clients_would_feel_is_said_beforehand() {
        let plan = Plan { kind: Kind::Patch, shards: vec![shard(&["a"], Steps::default())] };
        assert!(plan.warnings()[0].contains("hold-time"), "{:?}", plan.warnings());
        assert_eq!(plan.nodes(), 1);
    }
}
