// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {ERC20} from "solady/tokens/ERC20.sol";

import {Bn254} from "../../src/avs/Bn254.sol";
import {EigenAllocationManager, EigenPermissionController} from "../../src/avs/EigenLayer.sol";
import {IBlsQuorumVerifier} from "../../src/avs/IBlsQuorumVerifier.sol";
import {MatchingServiceManager} from "../../src/avs/MatchingServiceManager.sol";
import {Test} from "../Test.sol";
import {
    AllocationManager,
    DelegationManager,
    OperatorStateRetriever,
    ProxyAdmin,
    RegistryCoordinator,
    StrategyFactory,
    StrategyManager
} from "./EigenLayer.sol";
import {G2} from "./G2.sol";

/// @dev Cheatcodes for recorded state and bytecode.
interface Recordings {
    function loadAllocs(string calldata path) external;
    function deployCode(string calldata path, bytes calldata arguments) external returns (address);
}

contract RestakedToken is ERC20 {
    function name() public pure override returns (string memory) {
        return "Restaked";
    }

    function symbol() public pure override returns (string memory) {
        return "RST";
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @notice Tests on EigenLayer's real bytecode: the recorded core, its middleware for our service manager, and operators with
/// slashable stake in one or two quorums.
abstract contract EigenLayerTest is Test {
    struct Operator {
        address account;
        uint256 secret;
        IBlsQuorumVerifier.G1Point key;
        bytes32 id;
        uint256 stake;
    }

    string private constant FOLDER = "../.local/eigenlayer/";
    uint256 private constant GROUP_ORDER = 0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001;
    uint32 internal constant LOOK_AHEAD = 40;

    AccessManager internal accessManager;
    MatchingServiceManager internal serviceManager;
    RegistryCoordinator internal coordinator;
    AllocationManager internal allocationManager;
    address[] internal strategies;
    RestakedToken[] internal restaked;
    Operator[] internal operators;
    /// @dev Keys of signers in G2 by the sum of their secrets: slow to compute, so fuzz tests compute theirs once.
    mapping(uint256 secret => IBlsQuorumVerifier.G2Point) private _keys;

    /// @dev Loads the core and deploys the middleware with this many slashable-stake quorums.
    function deployEigenLayer(uint8 quorumCount) internal {
        string memory core = string.concat(FOLDER, "core-allocations.json");
        vm.assertTrue(vm.exists(core), "EigenLayer's recording is missing: run script/setup");
        Recordings(address(vm)).loadAllocs(core);
        // Past everything that the recording refers to, and past the first blocks, whose numbers look like unset ones.
        vm.roll(10_000);
        vm.warp(2_000_000_000);

        allocationManager = AllocationManager(core_("allocation_manager"));
        accessManager = new AccessManager(address(this));
        serviceManager = MatchingServiceManager(
            address(
                new ERC1967Proxy(
                    address(
                        new MatchingServiceManager(
                            EigenAllocationManager(address(allocationManager)),
                            EigenPermissionController(core_("permission_controller"))
                        )
                    ),
                    abi.encodeCall(MatchingServiceManager.initialize, (address(accessManager)))
                )
            )
        );
        _deployMiddleware();
        serviceManager.connect(address(coordinator), "https://example.org/avs.json");
        for (uint8 i = 0; i < quorumCount; i++) {
            _createQuorum();
        }
    }

    /// @dev Registers an operator with `stake` in every quorum, from a secret key.
    function addOperator(uint256 secret, uint256 stake) internal returns (Operator memory operator) {
        uint32[] memory sets = new uint32[](strategies.length);
        for (uint32 i = 0; i < sets.length; i++) {
            sets[i] = i;
        }
        return addOperator(secret, stake, sets);
    }

    function addOperator(uint256 secret, uint256 stake, uint32[] memory sets)
        internal
        returns (Operator memory operator)
    {
        operator.account = vm.addr(uint256(keccak256(abi.encode("operator", secret))));
        operator.secret = secret;
        operator.key = multiply(IBlsQuorumVerifier.G1Point(1, 2), secret);
        operator.id = keccak256(abi.encode(operator.key.X, operator.key.Y));
        operator.stake = stake;
        operators.push(operator);

        _stake(operator.account, stake, sets);
        bytes memory registration = _registration(operator);
        vm.prank(operator.account);
        allocationManager.registerForOperatorSets(
            operator.account, AllocationManager.RegisterParams(address(serviceManager), sets, registration)
        );
        vm.roll(vm.getBlockNumber() + 1);
    }

    /// @dev Proof that the operators whose bit is set in `signers` signed `message`, as of the reference block.
    /// @param members Per quorum, the operators that were in it.
    function prove(bytes32 message, uint32 referenceBlock, uint256 signers, uint256[] memory members)
        internal
        view
        returns (IBlsQuorumVerifier.BlsProof memory proof)
    {
        bytes memory numbers = new bytes(members.length);
        proof.quorumApks = new IBlsQuorumVerifier.G1Point[](members.length);
        uint256 secret;
        uint256 everybody;
        for (uint256 q = 0; q < members.length; q++) {
            numbers[q] = bytes1(uint8(q));
            proof.quorumApks[q] = multiply(IBlsQuorumVerifier.G1Point(1, 2), secretOf(members[q]));
            secret = addmod(secret, secretOf(members[q] & signers), GROUP_ORDER);
            everybody |= members[q];
        }
        proof.apkG2 = _keyOf(secret);
        (uint256 x, uint256 y) = Bn254.hashToG1(message);
        proof.sigma = multiply(IBlsQuorumVerifier.G1Point(x, y), secret);

        bytes32[] memory ids;
        (ids, proof.nonSignerPubkeys) = _sorted(everybody & ~signers);
        OperatorStateRetriever.CheckSignaturesIndices memory indices = OperatorStateRetriever(
                core_("operator_state_retriever")
            ).getCheckSignaturesIndices(address(coordinator), referenceBlock, numbers, ids);
        proof.nonSignerQuorumBitmapIndices = indices.nonSignerQuorumBitmapIndices;
        proof.quorumApkIndices = indices.quorumApkIndices;
        proof.totalStakeIndices = indices.totalStakeIndices;
        proof.nonSignerStakeIndices = indices.nonSignerStakeIndices;
    }

    /// @dev As above, every operator being in every one of the first `quorumCount` quorums.
    function prove(bytes32 message, uint32 referenceBlock, uint256 signers, uint256 quorumCount)
        internal
        view
        returns (IBlsQuorumVerifier.BlsProof memory)
    {
        uint256[] memory members = new uint256[](quorumCount);
        for (uint256 q = 0; q < quorumCount; q++) {
            members[q] = (1 << operators.length) - 1;
        }
        return prove(message, referenceBlock, signers, members);
    }

    /// @dev For proofs by these signers, every operator being in every one of the first `quorumCount` quorums.
    function rememberKey(uint256 signers, uint256 quorumCount) internal {
        uint256 secret = mulmod(secretOf(signers), quorumCount, GROUP_ORDER);
        _keys[secret] = _keyOf(secret);
    }

    /// @dev The encoded proof with the roots that spare the hash to the curve its exponentiations.
    function withRoots(bytes32 message, IBlsQuorumVerifier.BlsProof memory proof) internal view returns (bytes memory) {
        uint256[] memory roots = rootsOf(message);
        bytes memory encoded = abi.encode(proof);
        bytes memory struct_ = new bytes(encoded.length - 32);
        assembly ("memory-safe") {
            mcopy(add(struct_, 0x20), add(encoded, 0x40), mload(struct_))
        }
        return abi.encodePacked(32 * (roots.length + 1), roots, struct_);
    }

    /// @dev For every x tried in vain a root of -(x^3 + 3), last one of y.
    function rootsOf(bytes32 message) internal view returns (uint256[] memory roots) {
        (uint256 hashX, uint256 hashY) = Bn254.hashToG1(message);
        uint256 x = uint256(message) % Bn254.P;
        uint256 inVain = addmod(hashX, Bn254.P - x, Bn254.P);
        roots = new uint256[](inVain + 1);
        for (uint256 i = 0; i < inVain; i++) {
            roots[i] = squareRoot(Bn254.P - addmod(mulmod(mulmod(x, x, Bn254.P), x, Bn254.P), 3, Bn254.P));
            x = addmod(x, 1, Bn254.P);
        }
        roots[inVain] = squareRoot(hashY);
    }

    /// @dev Of a square.
    function squareRoot(uint256 square) internal view returns (uint256 root) {
        (bool success, bytes memory result) =
            address(5).staticcall(abi.encode(uint256(32), uint256(32), uint256(32), square, (Bn254.P + 1) / 4, Bn254.P));
        require(success, "modexp failed");
        root = abi.decode(result, (uint256));
        require(mulmod(root, root, Bn254.P) == square, "not a square");
    }

    /// @dev Sum of the secrets of the operators whose bit is set.
    function secretOf(uint256 chosen) internal view returns (uint256 sum) {
        for (uint256 i = 0; i < operators.length; i++) {
            if (chosen >> i & 1 == 1) sum = addmod(sum, operators[i].secret, GROUP_ORDER);
        }
    }

    function multiply(IBlsQuorumVerifier.G1Point memory point, uint256 scalar)
        internal
        view
        returns (IBlsQuorumVerifier.G1Point memory)
    {
        (bool success, bytes memory result) = address(7).staticcall(abi.encode(point.X, point.Y, scalar));
        require(success, "ecMul failed");
        return abi.decode(result, (IBlsQuorumVerifier.G1Point));
    }

    /// @dev Address of a recorded core contract.
    function core_(string memory name) internal view returns (address) {
        return vm.parseJsonAddress(vm.readFile(string.concat(FOLDER, "addresses.json")), string.concat(".", name));
    }

    function deployRecorded(string memory name, bytes memory arguments) internal returns (address) {
        return Recordings(address(vm)).deployCode(string.concat(FOLDER, "bytecode/", name, ".json"), arguments);
    }

    // ---------------------------------------------------------------- private

    /// @dev Five proxies first, because the implementations name each other.
    function _deployMiddleware() private {
        ProxyAdmin admin = ProxyAdmin(deployRecorded("ProxyAdmin", ""));
        bytes memory empty = abi.encode(core_("empty_contract"), address(admin), "");
        address coordinatorProxy = deployRecorded("TransparentUpgradeableProxy", empty);
        address stakes = deployRecorded("TransparentUpgradeableProxy", empty);
        address keys = deployRecorded("TransparentUpgradeableProxy", empty);
        address indices = deployRecorded("TransparentUpgradeableProxy", empty);
        address sockets = deployRecorded("TransparentUpgradeableProxy", empty);

        admin.upgrade(
            stakes,
            deployRecorded(
                "StakeRegistry",
                abi.encode(coordinatorProxy, core_("delegation_manager"), core_("avs_directory"), allocationManager)
            )
        );
        admin.upgrade(keys, deployRecorded("BLSApkRegistry", abi.encode(coordinatorProxy)));
        admin.upgrade(indices, deployRecorded("IndexRegistry", abi.encode(coordinatorProxy)));
        admin.upgrade(sockets, deployRecorded("SocketRegistry", abi.encode(coordinatorProxy)));
        admin.upgradeAndCall(
            coordinatorProxy,
            deployRecorded(
                "SlashingRegistryCoordinator",
                abi.encode(stakes, keys, indices, sockets, allocationManager, core_("pauser_registry"), "v1.3.1")
            ),
            abi.encodeCall(
                RegistryCoordinator.initialize,
                (address(this), address(this), address(this), 0, address(serviceManager))
            )
        );
        coordinator = RegistryCoordinator(coordinatorProxy);
    }

    function _createQuorum() private {
        RestakedToken token = new RestakedToken();
        address strategy = StrategyFactory(core_("strategy_factory")).deployNewStrategy(address(token));
        restaked.push(token);
        strategies.push(strategy);
        RegistryCoordinator.StrategyParams[] memory counted = new RegistryCoordinator.StrategyParams[](1);
        counted[0] = RegistryCoordinator.StrategyParams(strategy, 1e18);
        coordinator.createSlashableStakeQuorum(
            RegistryCoordinator.OperatorSetParam(200, 15000, 100), 1e18, counted, LOOK_AHEAD
        );
    }

    /// @dev Deposits and allocates everything to the sets; effective at once.
    function _stake(address account, uint256 amount, uint32[] memory sets) private {
        vm.startPrank(account);
        DelegationManager(core_("delegation_manager")).registerAsOperator(address(0), 0, "");
        AllocationManager.AllocateParams[] memory allocations = new AllocationManager.AllocateParams[](sets.length);
        for (uint256 i = 0; i < sets.length; i++) {
            uint32 set = sets[i];
            restaked[set].mint(account, amount);
            restaked[set].approve(core_("strategy_manager"), amount);
            StrategyManager(core_("strategy_manager"))
                .depositIntoStrategy(strategies[set], address(restaked[set]), amount);
            address[] memory one = new address[](1);
            one[0] = strategies[set];
            uint64[] memory all = new uint64[](1);
            all[0] = 1e18;
            allocations[i] =
                AllocationManager.AllocateParams(AllocationManager.OperatorSet(address(serviceManager), set), one, all);
        }
        // The allocation delay is only there after EigenLayer's configuration delay.
        vm.roll(vm.getBlockNumber() + 3);
        allocationManager.modifyAllocations(account, allocations);
        vm.stopPrank();
    }

    function _keyOf(uint256 secret) private view returns (IBlsQuorumVerifier.G2Point memory key) {
        key = _keys[secret];
        if (key.X[0] | key.X[1] | key.Y[0] | key.Y[1] == 0) (key.X, key.Y) = G2.multiply(secret);
    }

    function _registration(Operator memory operator) private view returns (bytes memory) {
        RegistryCoordinator.PubkeyRegistrationParams memory parameters;
        parameters.pubkeyRegistrationSignature =
            multiply(coordinator.pubkeyRegistrationMessageHash(operator.account), operator.secret);
        parameters.pubkeyG1 = operator.key;
        (parameters.pubkeyG2.X, parameters.pubkeyG2.Y) = G2.multiply(operator.secret);
        return abi.encode(uint8(0), "http://127.0.0.1:1", parameters);
    }

    /// @dev Ids and keys of the chosen operators, ids ascending.
    function _sorted(uint256 chosen)
        private
        view
        returns (bytes32[] memory ids, IBlsQuorumVerifier.G1Point[] memory keys)
    {
        uint256 count;
        for (uint256 rest = chosen; rest != 0; rest &= rest - 1) {
            count++;
        }
        ids = new bytes32[](count);
        keys = new IBlsQuorumVerifier.G1Point[](count);
        uint256 placed;
        for (uint256 i = 0; i < operators.length; i++) {
            if (chosen >> i & 1 == 0) continue;
            uint256 position = placed++;
            for (; position != 0 && ids[position - 1] > operators[i].id; position--) {
                ids[position] = ids[position - 1];
                keys[position] = keys[position - 1];
            }
            ids[position] = operators[i].id;
            keys[position] = operators[i].key;
        }
    }
}
