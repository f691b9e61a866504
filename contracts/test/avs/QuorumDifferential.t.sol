// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Bn254} from "../../src/avs/Bn254.sol";
import {BlsQuorumVerifier} from "../../src/avs/BlsQuorumVerifier.sol";
import {EigenRegistryCoordinator} from "../../src/avs/EigenLayer.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {AllocationManager, OperatorStateRetriever, RegistryCoordinator, SignatureChecker} from "./EigenLayer.sol";
import {G2} from "./G2.sol";
import {QuorumTest} from "./QuorumTest.sol";

/// @notice Our verifier and EigenLayer's `checkSignatures` (the bytecode of its example's task manager) on the same registries, round
/// for round, while operators join, leave, restake more and less, and sign or do not. Every run is a seed that forge prints
/// if it fails (with -vv those of a pass too) and takes from `--fuzz-seed`: a thousand rounds, ten thousand with
/// `FOUNDRY_PROFILE=deep`.
contract QuorumDifferentialTest is QuorumTest {
    uint256 private constant ROUNDS = 25;
    uint256 private constant OPERATORS = 7;
    uint32 private constant AGE = 25;
    uint32 private constant DEALLOCATION_DELAY = 60;

    /// @dev Verifiers of the first quorum, the second, and both.
    struct Configuration {
        uint8[] numbers;
        uint8[] thresholds;
        BlsQuorumVerifier verifier;
        /// @dev Wants everybody's signature, and says how much stake signed.
        BlsQuorumVerifier strict;
    }

    /// @dev One round's question.
    struct Question {
        Configuration configuration;
        bytes32 message;
        uint32 referenceBlock;
        uint256 signers;
        IBlsQuorumVerifier.BlsProof proof;
    }

    /// @dev What the reference says.
    struct Answer {
        bool accepted;
        SignatureChecker.QuorumStakeTotals totals;
        bytes32 signatories;
    }

    /// @dev Who was in which quorum from a block on: what we know without asking the registries.
    struct Membership {
        uint256 fromBlock;
        uint256[2] members;
    }

    event log_named_uint(string name, uint256 value);

    SignatureChecker private checker;
    Membership[] private memberships;
    /// @dev Block at which an operator left a quorum; it may come back after EigenLayer's delay.
    mapping(uint256 operator => mapping(uint256 quorum => uint256 block_)) private leftAt;
    mapping(uint256 quorum => uint256[] blocks) private refreshes;
    uint256 private random;
    uint256[6] private outcomes;

    function setUp() public {
        deployEigenLayer(2);
        for (uint256 i = 0; i < OPERATORS; ++i) {
            // Short secrets, because keys in G2 are slow to compute here.
            addOperator(uint256(keccak256(abi.encode("secret", i))) >> 216, (i + 1) * 100e18);
        }
        checker = SignatureChecker(deployRecorded("SquaringTask", abi.encode(coordinator, uint32(30))));
        _remember([everybody(), everybody()]);
    }

    /// forge-config: default.fuzz.runs = 40
    /// forge-config: deep.fuzz.runs = 400
    function test_fuzz_agrees_with_checkSignatures(uint256 seed) public {
        emit log_named_uint("seed", seed);
        random = seed;
        Configuration[3] memory configurations = [_configure(0, 67), _configure(1, 50), _configure()];
        for (uint256 round = 0; round < ROUNDS; ++round) {
            _change(configurations);
            Question memory question = _ask(configurations[_below(3)]);
            assertTrue(_compare(question), "the reference refuses an honest proof");
            // Now and then what nobody's software would send.
            if (_below(3) == 0) {
                _damage(question.proof);
                _compare(question);
            }
        }
        emit log_named_uint("accepted by both", outcomes[0]);
        emit log_named_uint("refused by both", outcomes[1]);
        emit log_named_uint("refused by us alone: threshold", outcomes[2]);
        emit log_named_uint("refused by us alone: age of stakes", outcomes[3]);
        emit log_named_uint("refused by us alone: zero signers", outcomes[4]);
    }

    // ------------------------------------------------------------ the compare

    /// @return accepted Whether the reference accepts.
    function _compare(Question memory question) private returns (bool accepted) {
        Answer memory theirs = _reference(question);
        _compareDecision(question, theirs);
        _compareStakes(question, theirs);
        return theirs.accepted;
    }

    /// @dev We accept exactly what the reference accepts and what keeps our own rules; then the commitments are equal. The
    /// reference knows no threshold, no age, and accepts that nobody signed.
    function _compareDecision(Question memory question, Answer memory theirs) private {
        bool young = true;
        bool reached = true;
        bool signed = theirs.totals.signedStakeForQuorum.length != 0;
        for (uint256 i = 0; i < theirs.totals.signedStakeForQuorum.length; ++i) {
            uint256 stake = theirs.totals.signedStakeForQuorum[i];
            uint256 total = theirs.totals.totalStakeForQuorum[i];
            if (stake == 0) signed = false;
            if (total == 0 || stake * 100 < total * question.configuration.thresholds[i]) reached = false;
            if (!_isYoung(question.configuration.numbers[i], question.referenceBlock)) young = false;
        }
        try question.configuration.verifier.verify{gas: 10_000_000}(
            question.message, question.referenceBlock, abi.encode(question.proof)
        ) returns (
            bytes32 signatories
        ) {
            assertTrue(theirs.accepted, "the reference refuses what we accept");
            assertTrue(signed, "accepted without signers");
            assertTrue(reached, "accepted below a threshold");
            assertTrue(young, "accepted with old stakes");
            assertEq(signatories, theirs.signatories, "commitment to who signed");
            ++outcomes[0];
        } catch (bytes memory reason) {
            // What was refreshed before a pause as long as the age may be forgotten, see StakeRefresh.t.sol.
            bool old = bytes4(reason) == IBlsQuorumVerifier.StakeTooOld.selector;
            if (old && question.referenceBlock + AGE + 1 < vm.getBlockNumber()) young = false;
            assertFalse(
                theirs.accepted && reached && young,
                string.concat("we refuse what the reference accepts: ", vm.toString(reason))
            );
            ++outcomes[!theirs.accepted ? 1 : !young ? 3 : signed ? 2 : 4];
            if (theirs.accepted) {
                bytes32 rule = bytes32(bytes4(reason));
                assertTrue(
                    rule == IBlsQuorumVerifier.ThresholdNotReached.selector
                        || rule == IBlsQuorumVerifier.StakeTooOld.selector
                        || rule == IBlsQuorumVerifier.NoStake.selector,
                    "refused for another reason than our own rules"
                );
            }
        }
    }

    /// @dev A verifier that wants all of the stake says of the first quorum that lacks some how much signed.
    function _compareStakes(Question memory question, Answer memory theirs) private view {
        SignatureChecker.QuorumStakeTotals memory totals = theirs.totals;
        try question.configuration.strict.verify{gas: 10_000_000}(
            question.message, question.referenceBlock, abi.encode(question.proof)
        ) {
            assertTrue(theirs.accepted, "the reference refuses what the strict verifier accepts");
            for (uint256 i = 0; i < totals.signedStakeForQuorum.length; ++i) {
                assertEq(totals.signedStakeForQuorum[i], totals.totalStakeForQuorum[i], "not everybody signed");
            }
        } catch (bytes memory reason) {
            if (!theirs.accepted) return;
            uint256 lacking;
            while (
                totals.signedStakeForQuorum[lacking] == totals.totalStakeForQuorum[lacking]
                    && totals.totalStakeForQuorum[lacking] != 0
            ) {
                ++lacking;
            }
            uint8 number = question.configuration.numbers[lacking];
            bytes memory expected = totals.totalStakeForQuorum[lacking] == 0
                ? abi.encodeWithSelector(IBlsQuorumVerifier.NoStake.selector, number, question.referenceBlock)
                : abi.encodeWithSelector(
                    IBlsQuorumVerifier.ThresholdNotReached.selector,
                    number,
                    totals.signedStakeForQuorum[lacking],
                    totals.totalStakeForQuorum[lacking],
                    100
                );
            assertEq(reason, expected, "stakes");
        }
    }

    function _reference(Question memory question) private view returns (Answer memory answer) {
        try checker.checkSignatures{gas: 10_000_000}(
            question.message, _bytes(question.configuration.numbers), question.referenceBlock, question.proof
        ) returns (
            SignatureChecker.QuorumStakeTotals memory totals, bytes32 signatories
        ) {
            return Answer(true, totals, signatories);
        } catch {}
    }

    function _isYoung(uint256 quorum, uint256 block_) private view returns (bool young) {
        for (uint256 i = 0; i < refreshes[quorum].length; ++i) {
            uint256 refreshed = refreshes[quorum][i];
            if (refreshed <= block_ && refreshed + AGE >= block_) return true;
        }
    }

    // ----------------------------------------------------------- the question

    function _configure(uint8 number, uint8 threshold) private returns (Configuration memory) {
        uint8[] memory numbers = new uint8[](1);
        uint8[] memory thresholds = new uint8[](1);
        (numbers[0], thresholds[0]) = (number, threshold);
        return _configure(numbers, thresholds);
    }

    function _configure() private returns (Configuration memory) {
        uint8[] memory numbers = new uint8[](2);
        uint8[] memory thresholds = new uint8[](2);
        (numbers[1], thresholds[0], thresholds[1]) = (1, 34, 60);
        return _configure(numbers, thresholds);
    }

    function _configure(uint8[] memory numbers, uint8[] memory thresholds)
        private
        returns (Configuration memory configuration)
    {
        EigenRegistryCoordinator registries = EigenRegistryCoordinator(address(coordinator));
        uint8[] memory all = new uint8[](numbers.length);
        for (uint256 i = 0; i < all.length; ++i) {
            all[i] = 100;
        }
        return Configuration(
            numbers,
            thresholds,
            new BlsQuorumVerifier(registries, numbers, thresholds, AGE),
            new BlsQuorumVerifier(registries, numbers, all, 0)
        );
    }

    /// @dev About some block since the start, signed by some who were members then.
    function _ask(Configuration memory configuration) private returns (Question memory question) {
        question.configuration = configuration;
        question.message = keccak256(abi.encode(random));
        uint256 first = memberships[0].fromBlock;
        uint256 present = vm.getBlockNumber();
        // Mostly a recent one, as a task's close block is.
        uint256 reach = _below(4) == 0 || present - first < 30 ? present - first : 30;
        question.referenceBlock = uint32(present - 1 - _below(reach));

        uint256[2] memory members = _membersAt(question.referenceBlock);
        uint256 absent = _below(8) == 0 ? type(uint256).max : _below(3) == 0 ? 0 : _next() & _next();
        question.signers = (members[0] | members[1]) & ~absent;
        question.proof = _prove(question, members);
        if (_below(2) == 0) _proveKey(configuration.verifier, question, members);
    }

    /// @dev As {prove}, for any list of quorums.
    function _prove(Question memory question, uint256[2] memory members)
        private
        view
        returns (IBlsQuorumVerifier.BlsProof memory proof)
    {
        uint8[] memory numbers = question.configuration.numbers;
        proof.quorumApks = new IBlsQuorumVerifier.G1Point[](numbers.length);
        uint256 chosen;
        for (uint256 i = 0; i < numbers.length; ++i) {
            proof.quorumApks[i] = multiply(IBlsQuorumVerifier.G1Point(1, 2), secretOf(members[numbers[i]]));
            chosen |= members[numbers[i]];
        }
        uint256 secret = _secret(question, members);
        (proof.apkG2.X, proof.apkG2.Y) = G2.multiply(secret);
        (uint256 x, uint256 y) = Bn254.hashToG1(question.message);
        proof.sigma = multiply(IBlsQuorumVerifier.G1Point(x, y), secret);

        // One who was in neither quorum, or in another one only, may be listed too: it changes nothing but the commitment.
        uint256 also = question.signers & 1 == 0 ? members[0] | members[1] : 0;
        bytes32[] memory ids;
        (ids, proof.nonSignerPubkeys) = _ascending((chosen | also) & ~question.signers);
        OperatorStateRetriever.CheckSignaturesIndices memory indices = OperatorStateRetriever(
                core_("operator_state_retriever")
            ).getCheckSignaturesIndices(address(coordinator), question.referenceBlock, _bytes(numbers), ids);
        proof.nonSignerQuorumBitmapIndices = indices.nonSignerQuorumBitmapIndices;
        proof.quorumApkIndices = indices.quorumApkIndices;
        proof.totalStakeIndices = indices.totalStakeIndices;
        proof.nonSignerStakeIndices = indices.nonSignerStakeIndices;
    }

    /// @dev Everybody's secret as often as quorums count it. Far from the group's order.
    function _secret(Question memory question, uint256[2] memory members) private view returns (uint256 secret) {
        for (uint256 i = 0; i < question.configuration.numbers.length; ++i) {
            secret += secretOf(members[question.configuration.numbers[i]] & question.signers);
        }
    }

    function _proveKey(BlsQuorumVerifier verifier, Question memory question, uint256[2] memory members) private {
        uint256 secret = _secret(question, members);
        if (secret != 0) {
            verifier.proveKey(multiply(IBlsQuorumVerifier.G1Point(1, 2), secret), question.proof.apkG2);
        }
    }

    function _damage(IBlsQuorumVerifier.BlsProof memory proof) private {
        uint256 kind = _below(11);
        uint256 absent = proof.nonSignerPubkeys.length;
        uint256 quorum = _below(proof.quorumApks.length);
        if (kind == 0) {
            proof.sigma = proof.quorumApks[quorum];
        } else if (kind == 1) {
            (proof.apkG2.X, proof.apkG2.Y) = G2.multiply(_below(1000));
        } else if (kind == 2) {
            proof.quorumApkIndices[quorum] = _near(proof.quorumApkIndices[quorum]);
        } else if (kind == 3) {
            proof.totalStakeIndices[quorum] = _near(proof.totalStakeIndices[quorum]);
        } else if (kind == 4) {
            proof.quorumApks[quorum] = multiply(proof.quorumApks[quorum], 2);
        } else if (kind == 5) {
            proof.nonSignerStakeIndices[quorum] = new uint32[](_below(absent + 2));
        } else if (absent == 0) {
            proof.nonSignerPubkeys = new IBlsQuorumVerifier.G1Point[](1);
            proof.nonSignerPubkeys[0] = operators[_below(OPERATORS)].key;
            proof.nonSignerQuorumBitmapIndices = new uint32[](_below(3));
        } else {
            _damageNonSigner(proof, kind, _below(absent), quorum);
        }
    }

    function _damageNonSigner(IBlsQuorumVerifier.BlsProof memory proof, uint256 kind, uint256 j, uint256 quorum)
        private
    {
        uint256 last = proof.nonSignerPubkeys.length - 1;
        if (kind == 6) {
            proof.nonSignerQuorumBitmapIndices[j] = _near(proof.nonSignerQuorumBitmapIndices[j]);
        } else if (kind == 7) {
            // Repeated, or with two of them their order.
            proof.nonSignerPubkeys[j] = proof.nonSignerPubkeys[last - j];
        } else if (kind == 8) {
            proof.nonSignerPubkeys[j] = multiply(proof.nonSignerPubkeys[j], 3);
        } else if (kind == 9) {
            (proof.nonSignerPubkeys[j], proof.nonSignerPubkeys[last]) =
            (proof.nonSignerPubkeys[last], proof.nonSignerPubkeys[j]);
        } else if (proof.nonSignerStakeIndices[quorum].length != 0) {
            uint256 k = _below(proof.nonSignerStakeIndices[quorum].length);
            proof.nonSignerStakeIndices[quorum][k] = _near(proof.nonSignerStakeIndices[quorum][k]);
        }
    }

    // ------------------------------------------------------------ the changes

    /// @dev Something happens to the registries, and blocks pass.
    function _change(Configuration[3] memory configurations) private {
        uint256 operator = _below(OPERATORS);
        uint256 quorum = _below(2);
        uint256 kind = _below(8);
        if (kind < 3) {
            _joinOrLeave(operator, quorum);
        } else if (kind == 3) {
            restake(operator, quorum, (1 + _below(500)) * 1e18);
        } else if (kind == 4) {
            _reallocate(operator, quorum);
        } else {
            _refresh(configurations, quorum);
            if (kind > 5) _refresh(configurations, 1 - quorum);
        }
        vm.roll(vm.getBlockNumber() + 1 + _below(6));
    }

    function _joinOrLeave(uint256 operator, uint256 quorum) private {
        uint256[2] memory members = memberships[memberships.length - 1].members;
        address account = operators[operator].account;
        uint32[] memory sets = new uint32[](1);
        sets[0] = uint32(quorum);
        if (members[quorum] >> operator & 1 == 1) {
            leftAt[operator][quorum] = vm.getBlockNumber();
            vm.prank(account);
            allocationManager.deregisterFromOperatorSets(
                AllocationManager.DeregisterParams(account, address(serviceManager), sets)
            );
        } else {
            if (leftAt[operator][quorum] + DEALLOCATION_DELAY >= vm.getBlockNumber()) return;
            // The registry knows the key: what is given is not looked at.
            RegistryCoordinator.PubkeyRegistrationParams memory known;
            vm.prank(account);
            allocationManager.registerForOperatorSets(
                account,
                AllocationManager.RegisterParams(
                    address(serviceManager), sets, abi.encode(uint8(0), "http://127.0.0.1:1", known)
                )
            );
        }
        members[quorum] ^= 1 << operator;
        _remember(members);
    }

    /// @dev Puts between half and all of what was deposited at stake; refused while another change is on its way.
    function _reallocate(uint256 operator, uint256 quorum) private {
        AllocationManager.AllocateParams[] memory allocations = new AllocationManager.AllocateParams[](1);
        address[] memory one = new address[](1);
        one[0] = strategies[quorum];
        uint64[] memory magnitude = new uint64[](1);
        magnitude[0] = uint64(0.5e18 + _below(0.5e18));
        allocations[0] = AllocationManager.AllocateParams(
            AllocationManager.OperatorSet(address(serviceManager), uint32(quorum)), one, magnitude
        );
        address account = operators[operator].account;
        vm.prank(account);
        (bool success,) =
            address(allocationManager).call(abi.encodeCall(allocationManager.modifyAllocations, (account, allocations)));
        success;
    }

    /// @dev Every verifier keeps notes of its own.
    function _refresh(Configuration[3] memory configurations, uint256 quorum) private {
        address[] memory accounts = accountsOf(memberships[memberships.length - 1].members[quorum]);
        configurations[quorum].verifier.refresh(uint8(quorum), accounts);
        configurations[2].verifier.refresh(uint8(quorum), accounts);
        refreshes[quorum].push(vm.getBlockNumber());
    }

    function _remember(uint256[2] memory members) private {
        memberships.push(Membership(vm.getBlockNumber(), members));
    }

    function _membersAt(uint256 block_) private view returns (uint256[2] memory) {
        uint256 i = memberships.length - 1;
        while (memberships[i].fromBlock > block_) {
            --i;
        }
        return memberships[i].members;
    }

    // ---------------------------------------------------------------- private

    function _next() private returns (uint256) {
        random = uint256(keccak256(abi.encode(random)));
        return random;
    }

    function _below(uint256 limit) private returns (uint256) {
        return _next() % limit;
    }

    function _near(uint32 value) private returns (uint32) {
        if (_below(4) == 0) return type(uint32).max;
        return uint32(value + 2 - _below(value < 2 ? 3 : 5));
    }

    function _bytes(uint8[] memory numbers) private pure returns (bytes memory packed) {
        packed = new bytes(numbers.length);
        for (uint256 i = 0; i < numbers.length; ++i) {
            packed[i] = bytes1(numbers[i]);
        }
    }

    /// @dev Ids and keys of the chosen operators, ids ascending.
    function _ascending(uint256 chosen)
        private
        view
        returns (bytes32[] memory ids, IBlsQuorumVerifier.G1Point[] memory keys)
    {
        uint256 count;
        for (uint256 rest = chosen; rest != 0; rest &= rest - 1) {
            ++count;
        }
        ids = new bytes32[](count);
        keys = new IBlsQuorumVerifier.G1Point[](count);
        for (uint256 k = 0; k < count; ++k) {
            // The smallest one left.
            uint256 smallest = OPERATORS;
            for (uint256 i = 0; i < OPERATORS; ++i) {
                if (chosen >> i & 1 == 0) continue;
                if (smallest == OPERATORS || operators[i].id < operators[smallest].id) smallest = i;
            }
            (ids[k], keys[k]) = (operators[smallest].id, operators[smallest].key);
            chosen ^= 1 << smallest;
        }
    }
}
