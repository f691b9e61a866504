use alloy::primitives::address;

use super::*;

const OPERATOR: Address = address!("0x1000000000000000000000000000000000000001");

fn addresses() -> Addresses {
    let at = Address::with_last_byte;
    Addresses {
        delegation_manager: at(1),
        strategy_manager: at(2),
        allocation_manager: at(3),
        registry_coordinator: at(4),
        stake_registry: at(5),
        bls_apk_registry: at(6),
        operator_state_retriever: at(7),
        socket_registry: at(9),
        service_manager: at(8),
    }
}

fn wanted() -> OptIn {
    let quorum = |quorum: u8| QuorumStake {
        quorum,
        strategy: Address::with_last_byte(20 + quorum),
        deposit: U256::from(100),
    };
    OptIn {
        operator: OPERATOR,
        quorums: vec![quorum(0), quorum(1)],
        allocation_delay: 0,
        metadata_uri: String::new(),
        socket: "http://127.0.0.1:1".into(),
    }
}

fn quorum_at_start(quorum: u8) -> QuorumStanding {
    QuorumStanding {
        quorum,
        strategy: Address::with_last_byte(20 + quorum),
        token: Address::with_last_byte(30 + quorum),
        balance: U256::from(100),
        allowance: U256::ZERO,
        shares: U256::ZERO,
        allocated: 0,
        pending: None,
        allocatable: 1_000_000_000_000_000_000,
        member: false,
        slashable: false,
        registered_stake: U256::ZERO,
        weight: U256::ZERO,
        minimum_stake: U256::from(10),
    }
}

fn at_start() -> Standing {
    Standing {
        block: 10,
        is_operator: false,
        allocation_delay: None,
        deallocation_delay: 60,
        socket: String::new(),
        registered: false,
        quorums: vec![quorum_at_start(0), quorum_at_start(1)],
    }
}

fn step(standing: &Standing) -> Result<Step, Impossible> {
    next_step(&wanted(), standing, &addresses(), &Bytes::from_static(b"data"))
}

fn label(standing: &Standing) -> String {
    match step(standing).expect("possible") {
        Step::Send(call) => call.label,
        Step::Wait { reason, .. } => format!("wait: {reason}"),
        Step::Done => "done".into(),
    }
}

/// Applies what the chain would do, step by step, and collects the labels: also what a restart at any point would repeat.
#[test]
fn every_step_leads_to_the_next_until_done() {
    let mut standing = at_start();
    assert_eq!(label(&standing), "register as an EigenLayer operator");
    standing.is_operator = true;
    for quorum in 0..2 {
        assert_eq!(
            label(&standing),
            format!("quorum {quorum}: allow EigenLayer to take the deposit")
        );
        standing.quorums[quorum].allowance = U256::from(100);
        assert_eq!(label(&standing), format!("quorum {quorum}: deposit 100 token units"));
        standing.quorums[quorum].shares = U256::from(100);
        standing.quorums[quorum].balance = U256::ZERO;
    }
    assert!(label(&standing).starts_with("wait: EigenLayer's allocation configuration delay"));
    standing.allocation_delay = Some(0);
    assert_eq!(label(&standing), "allocate slashable stake to the service");
    for quorum in &mut standing.quorums {
        (quorum.pending, quorum.allocatable) = (Some((1, 15)), 0);
    }
    assert_eq!(
        step(&standing),
        Ok(Step::Wait {
            until: Some(15),
            reason: "the allocation takes effect".into()
        })
    );
    for quorum in &mut standing.quorums {
        (quorum.pending, quorum.allocated) = (None, WHOLE_MAGNITUDE);
    }
    assert_eq!(
        label(&standing),
        "register for the service's operator sets with the BLS key"
    );
    for quorum in &mut standing.quorums {
        quorum.member = true;
    }
    assert_eq!(step(&standing), Ok(Step::Done));
}

#[test]
fn missing_means_are_named() {
    let mut standing = at_start();
    standing.is_operator = true;
    standing.quorums[0].balance = U256::from(40);
    let error = step(&standing).expect_err("too few tokens");
    assert_eq!(
        error,
        Impossible::NotEnoughTokens {
            quorum: 0,
            token: Address::with_last_byte(30),
            deposit: U256::from(100),
            missing: U256::from(60)
        }
    );

    let mut wanted = wanted();
    wanted.quorums[0].deposit = U256::ZERO;
    let error = next_step(&wanted, &standing, &addresses(), &Bytes::new()).expect_err("no stake at all");
    assert!(error.to_string().contains("--deposit 0=AMOUNT"), "{error}");
}

#[test]
fn stake_below_the_minimum_is_refused_before_a_transaction_reverts() {
    let mut standing = at_start();
    standing.is_operator = true;
    standing.allocation_delay = Some(0);
    for quorum in &mut standing.quorums {
        (quorum.shares, quorum.allocated) = (U256::from(100), WHOLE_MAGNITUDE / 11);
    }
    let error = step(&standing).expect_err("below the minimum");
    assert_eq!(
        error,
        Impossible::BelowMinimum {
            quorum: 0,
            stake: U256::from(9),
            minimum: U256::from(10)
        }
    );
}

#[test]
fn fully_allocated_elsewhere_is_named() {
    let mut standing = at_start();
    standing.is_operator = true;
    standing.allocation_delay = Some(0);
    for quorum in &mut standing.quorums {
        (quorum.shares, quorum.allocatable) = (U256::from(100), 0);
    }
    assert!(matches!(
        step(&standing),
        Err(Impossible::NothingToAllocate { quorum: 0, .. })
    ));
}

#[test]
fn leaving_deregisters_then_deallocates_then_waits() {
    let mut standing = at_start();
    standing.is_operator = true;
    for quorum in &mut standing.quorums {
        (quorum.member, quorum.allocated) = (true, 1);
    }
    let out = |standing: &Standing| next_step_out(OPERATOR, standing, &addresses());
    assert!(matches!(out(&standing), Step::Send(call) if call.label.starts_with("leave")));
    standing.quorums.iter_mut().for_each(|quorum| quorum.member = false);
    assert!(matches!(out(&standing), Step::Send(call) if call.label.starts_with("take")));
    standing
        .quorums
        .iter_mut()
        .for_each(|quorum| quorum.pending = Some((-1, 99)));
    assert!(matches!(out(&standing), Step::Wait { until: Some(99), .. }));
    for quorum in &mut standing.quorums {
        (quorum.pending, quorum.allocated) = (None, 0);
    }
    assert_eq!(out(&standing), Step::Done);
}

#[test]
fn a_member_with_another_socket_updates_it_and_an_empty_one_is_left_alone() {
    let mut standing = at_start();
    standing.is_operator = true;
    standing.registered = true;
    standing.quorums.iter_mut().for_each(|quorum| quorum.member = true);
    let step = |standing: &Standing, wanted: &OptIn| {
        next_step(wanted, standing, &addresses(), &Bytes::new()).expect("possible")
    };
    let Step::Send(call) = step(&standing, &wanted()) else {
        panic!("the socket is updated")
    };
    assert_eq!(call.to, addresses().registry_coordinator);
    let sent = ISlashingRegistryCoordinator::updateSocketCall::abi_decode(&call.data).expect("the call");
    assert_eq!(sent.socket, wanted().socket);
    standing.socket = wanted().socket;
    assert_eq!(step(&standing, &wanted()), Step::Done);
    let silent = OptIn {
        socket: String::new(),
        ..wanted()
    };
    assert_eq!(step(&standing, &silent), Step::Done);
}
