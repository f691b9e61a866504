use super::*;

/// One lease on a chain that reorganises, at an agent that is killed, on an engine and behind an RPC that come and go.
#[derive(Debug, Default)]
struct World {
    /// What happened in each block.
    chain: Vec<Block>,
    /// The agent's row, as of block `seen`.
    row: Row,
    seen: usize,
    manifest_sent: bool,
    stored: bool,
    assignment: bool,
    ready: bool,
    removed: bool,
    engine: Workload,
    rpc_down: bool,
    engine_down: bool,
    store_broken: bool,
    failing_since: Option<u64>,
    /// When something without a lease was first seen: its manifest came before its block was, and the block is gone.
    strange_since: Option<u64>,
    over_since: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Block {
    number: u64,
    leases: bool,
    closes: bool,
    extends: bool,
    /// Tells a block from the one that took its place.
    branch: u32,
}

#[derive(Debug, Clone, Default)]
struct Row {
    blocks: Vec<Block>,
    undone: Option<u64>,
}

#[derive(Debug, Default)]
struct Workload {
    containers: usize,
    running: bool,
    disk: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Mine(usize),
    Lease,
    Close,
    Extend,
    Reorganise { depth: usize, with_lease: bool },
    SendManifest,
    LoseManifest,
    Rpc(bool),
    Engine(bool),
    RestartEngine,
    Store(bool),
    Round { actions_before_a_crash: usize },
}

fn time_of(block: u64) -> u64 {
    1_000 + block
}

impl World {
    fn tip(&self) -> u64 {
        self.chain.len() as u64
    }

    fn mine(&mut self, leases: bool, closes: bool, branch: u32) {
        let number = self.tip() + 1;
        self.chain.push(Block {
            number,
            leases,
            closes,
            extends: false,
            branch,
        });
    }

    /// When end and grace of the lease on these blocks are over.
    fn stops_at(blocks: &[Block], leased: u64) -> u64 {
        let extensions = blocks.iter().filter(|block| block.extends).count() as u64;
        time_of(leased) + DURATION + EXTENSION * extensions + GRACE
    }

    /// Whether the contract would take an extension, or say that the lease goes on.
    fn is_before_its_stop(&self) -> bool {
        let leased = Self::lease_on(&self.chain).0;
        self.lives() && leased.is_some_and(|leased| time_of(self.tip()) < Self::stops_at(&self.chain, leased))
    }

    /// The lease on these blocks: since when it lives, and since when it is over.
    fn lease_on(blocks: &[Block]) -> (Option<u64>, Option<u64>) {
        let leased = blocks.iter().find(|block| block.leases).map(|block| block.number);
        let closed = blocks.iter().find(|block| block.closes).map(|block| block.number);
        (leased, leased.and(closed))
    }

    fn lives(&self) -> bool {
        matches!(Self::lease_on(&self.chain), (Some(_), None))
    }

    fn step(&mut self, step: Step, branch: u32) {
        match step {
            Step::Mine(count) => (0..count).for_each(|_| self.mine(false, false, branch)),
            Step::Lease => {
                let is_new = Self::lease_on(&self.chain).0.is_none();
                self.mine(is_new, false, branch);
            }
            Step::Close => {
                let lives = self.lives();
                self.mine(false, lives, branch);
            }
            Step::Extend => {
                let extends = self.is_before_its_stop();
                self.mine(false, false, branch);
                // The contract decides by the time of the block it is in.
                if let Some(block) = self.chain.last_mut() {
                    block.extends = extends;
                }
                if extends && !self.is_before_its_stop() {
                    self.chain.last_mut().expect("just mined").extends = false;
                }
            }
            Step::Reorganise { depth, with_lease } => self.reorganise(depth, with_lease, branch),
            Step::SendManifest => {
                if self.lives() && !self.store_broken {
                    (self.manifest_sent, self.stored) = (true, true);
                }
            }
            Step::LoseManifest => self.stored = false,
            Step::Rpc(down) => self.rpc_down = down,
            Step::Engine(down) => self.engine_down = down,
            Step::RestartEngine => self.engine.running = false,
            Step::Store(broken) => self.store_broken = broken,
            Step::Round { actions_before_a_crash } => self.round(actions_before_a_crash),
        }
    }

    fn reorganise(&mut self, depth: usize, with_lease: bool, branch: u32) {
        let depth = depth.min(self.chain.len());
        let gone = self.chain.split_off(self.chain.len() - depth);
        let had_lease = gone.iter().any(|block| block.leases);
        for index in 0..=depth {
            let leases = had_lease && with_lease && index == 0;
            self.mine(leases, false, branch);
        }
    }

    /// What the store does with the follower's blocks.
    fn follow(&mut self) {
        if self.rpc_down || self.store_broken {
            return;
        }
        let common = self
            .row
            .blocks
            .iter()
            .zip(&self.chain)
            .take_while(|(seen, canonical)| seen == canonical)
            .count();
        let undone = self.row.blocks.split_off(common);
        if undone.iter().any(|block| block.leases) {
            (self.row.undone, self.removed) = (Some(common as u64), false);
        }
        if undone.iter().any(|block| block.closes) {
            self.removed = false;
        }
        self.row.blocks.extend_from_slice(&self.chain[common..]);
        self.seen = self.chain.len();
    }

    fn facts(&mut self) -> Option<Facts> {
        let on_chain = match Self::lease_on(&self.row.blocks) {
            (Some(since_block), None) => OnChain::Active {
                since_block,
                start: time_of(since_block),
                stops_at: Self::stops_at(&self.row.blocks, since_block),
            },
            (Some(_), Some(since_block)) => OnChain::Closed { since_block },
            (None, _) => OnChain::Gone {
                since_block: match self.row.undone {
                    Some(since_block) => since_block,
                    None if !self.now().chain_is_readable || !(self.stored || self.engine.disk) => return None,
                    None => *self.strange_since.get_or_insert(self.seen as u64),
                },
            },
        };
        self.over_since = match on_chain {
            OnChain::Active { stops_at, .. } if self.now().time >= stops_at => {
                Some(self.over_since.unwrap_or(self.seen as u64))
            }
            _ => None,
        };
        Some(Facts {
            over_since: self.over_since,
            on_chain,
            has_manifest: self.stored,
            was_applied: self.assignment,
            was_ready: self.ready,
            failing_since: self.failing_since,
            objects: Objects {
                containers: self.engine.containers,
                running: usize::from(self.engine.running),
                exist: self.engine.disk,
            },
            removed: self.removed,
        })
    }

    fn now(&self) -> Now {
        Now {
            head: self.seen as u64,
            time: time_of(self.seen as u64),
            chain_is_readable: !self.rpc_down && self.seen == self.chain.len(),
            store_works: !self.store_broken,
            engine_answers: !self.engine_down,
        }
    }

    fn round(&mut self, actions_before_a_crash: usize) {
        self.follow();
        let Some(facts) = self.facts() else { return };
        let now = self.now();
        for action in decide(&PATIENCE, &now, &facts).into_iter().take(actions_before_a_crash) {
            self.carry_out(action, &now);
        }
    }

    fn carry_out(&mut self, action: Action, now: &Now) {
        match action {
            Action::Apply if self.engine_down || self.store_broken => {}
            Action::Apply => {
                assert!(self.stored && self.manifest_sent);
                self.assignment = true;
                // The name is the lease's: the engine refuses a second one.
                self.engine.containers = 1;
                (self.engine.running, self.engine.disk, self.ready) = (true, true, true);
            }
            Action::Stop => self.engine.running = false,
            Action::StopAtEnd => {
                // The contract is asked once more.
                if !self.rpc_down && !self.is_before_its_stop() {
                    self.engine.running = false;
                }
            }
            Action::Remove => {
                // The contract is asked once more.
                if self.rpc_down || self.lives() {
                    return;
                }
                let is_over_at_depth = match Self::lease_on(&self.chain) {
                    (Some(_), Some(closed)) => self.tip() >= closed + PATIENCE.removal_depth,
                    (Some(_), None) => false,
                    (None, _) => true,
                };
                assert!(is_over_at_depth, "removed too early");
                assert!(now.engine_answers && now.store_works);
                self.engine = Workload::default();
                (self.stored, self.assignment, self.removed, self.row.undone) = (false, false, true, None);
            }
            Action::Close(reason) => {
                let (leased, _) = Self::lease_on(&self.chain);
                if self.rpc_down || !self.lives() {
                    return;
                }
                match reason {
                    Reason::NoManifest => assert!(!self.engine.disk, "closed under a workload"),
                    Reason::AtEnd => {
                        assert!(
                            now.chain_is_readable && !self.is_before_its_stop(),
                            "closed before its end"
                        );
                        assert!(leased.is_some());
                    }
                    Reason::CannotStart => panic!("it always starts"),
                }
                self.mine(false, true, 0);
            }
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..8).prop_map(Step::Mine),
        2 => Just(Step::Lease),
        1 => Just(Step::Close),
        1 => Just(Step::Extend),
        2 => (1usize..=DEEPEST_REORGANISATION, any::<bool>())
            .prop_map(|(depth, with_lease)| Step::Reorganise { depth, with_lease }),
        3 => Just(Step::SendManifest),
        1 => Just(Step::LoseManifest),
        1 => any::<bool>().prop_map(Step::Rpc),
        1 => any::<bool>().prop_map(Step::Engine),
        1 => Just(Step::RestartEngine),
        1 => any::<bool>().prop_map(Step::Store),
        8 => prop_oneof![3 => Just(usize::MAX), 1 => 0usize..2]
            .prop_map(|actions_before_a_crash| Step::Round { actions_before_a_crash }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Through any sequence of blocks, reorganisations, outages and crashes: a workload is removed only once its lease is
    /// over at depth, there is never a second container, and when the noise ends everything is as the chain has it.
    #[test]
    fn any_history_converges_to_what_the_chain_says(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut world = World::default();
        for (step, branch) in steps.into_iter().zip(1..) {
            world.step(step, branch);
            prop_assert!(world.engine.containers <= 1);
        }
        (world.rpc_down, world.engine_down, world.store_broken) = (false, false, false);
        for _ in 0..PATIENCE.undone_depth + 3 {
            world.step(Step::Mine(1), 0);
            world.round(usize::MAX);
        }
        match World::lease_on(&world.chain) {
            (Some(leased), None) => {
                // It lives: it runs if its manifest is there, and its time and grace are not over.
                prop_assert!(time_of(world.tip()) < World::stops_at(&world.chain, leased) + 2);
                prop_assert!(!world.stored || world.engine.running || !world.is_before_its_stop());
            }
            (Some(_), Some(_)) => {
                (0..PATIENCE.removal_depth + 1).for_each(|_| world.step(Step::Mine(1), 0));
                world.round(usize::MAX);
                prop_assert!(!world.engine.disk && !world.stored, "{world:?}");
            }
            (None, _) => prop_assert!(!world.engine.disk && !world.stored, "{world:?}"),
        }
    }
}
