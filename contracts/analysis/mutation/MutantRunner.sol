// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

interface RunnerVm {
    function coinbase(address newCoinbase) external;
    function snapshotState() external returns (uint256 id);
    function revertToStateAndDelete(uint256 id) external returns (bool success);
    function envString(string calldata name) external view returns (string memory value);
    function readLine(string calldata path) external view returns (string memory line);
    function writeLine(string calldata path, string calldata data) external;
    function split(string calldata input, string calldata delimiter) external pure returns (string[] memory parts);
    function parseUint(string calldata value) external pure returns (uint256);
    function parseBytes(string calldata value) external pure returns (bytes memory);
    function getCode(string calldata artifact) external view returns (bytes memory creationBytecode);
    function expectEmit() external;
    function stopPrank() external;
    function clearMockedCalls() external;
}

RunnerVm constant vm = RunnerVm(address(uint160(uint256(keccak256("hevm cheat code")))));

/// @notice Runs the tests of other test contracts for many mutants in one process: starting forge takes longer than most mutants
/// live. project.py copies it beside the tests and writes what it reads, in the folder that RUNNER names: `cases`, one test per line
/// as `artifact,name,calldata` with a contract's `setUp` first; `killers`, places of tests there that are tried first; and `mutants`, one id
/// per line. It writes each id to `results`, with the test that killed it.
contract MutantRunner {
    struct Suite {
        string artifact;
        address deployed;
    }

    struct Case {
        uint256 suite;
        string name;
        bytes data;
    }

    /// @dev Ends loops, nothing else comes near it.
    uint256 private constant MOST_GAS = 300_000_000;
    /// @dev What a test returns that a fuzzed value does not suit.
    bytes32 private constant ASSUMPTION = "FOUNDRY::ASSUME";

    uint256 private constant MOST_KILLERS = 8;
    uint256 private constant MOST_SEARCHES = 3;

    Suite[] private _suites;
    Case[] private _setUps;
    Case[] private _cases;
    Case[] private _killers;

    function test_mutants() external {
        _load();
        Sweeper sweeper = new Sweeper();
        uint256 searches = 0;
        for (
            string memory id = vm.readLine(_path("mutants"));
            bytes(id).length != 0;
            id = vm.readLine(_path("mutants"))
        ) {
            vm.coinbase(address(uint160((1 << 152) | vm.parseUint(id))));
            (bool killed, Case memory killer) = _judgeByKillers();
            if (!killed) {
                (killed, killer) = _judge();
                ++searches;
            }
            vm.writeLine(_path("results"), killed ? string.concat(id, " ", killer.name) : id);
            if (killed) _remember(killer);
            vm.coinbase(address(0));
            // A test that ends early leaves expectations behind, which nothing but a new process takes away. And every event
            // of every test stays in memory, and is copied with each snapshot: a few searches make the next ones slow.
            if (killed && !sweeper.sweep() || searches == MOST_SEARCHES) return;
        }
    }

    /// @dev The tests that do not pass here though no mutant lives: they need a process of their own.
    function test_baseline() external {
        _load();
        Sweeper sweeper = new Sweeper();
        for (uint256 index = 0; index < _cases.length; ++index) {
            if (_passes(_cases[index])) continue;
            vm.writeLine(_path("results"), string.concat("0 ", _cases[index].name));
            if (!sweeper.sweep()) return;
        }
    }

    function _path(string memory name) private view returns (string memory) {
        return string.concat(vm.envString("RUNNER"), "/", name);
    }

    function _load() private {
        bytes32 previous;
        for (
            string memory line = vm.readLine(_path("cases"));
            bytes(line).length != 0;
            line = vm.readLine(_path("cases"))
        ) {
            string[] memory parts = vm.split(line, ",");
            if (keccak256(bytes(parts[0])) != previous) {
                previous = keccak256(bytes(parts[0]));
                _suites.push(Suite(parts[0], address(0)));
                _setUps.push(Case(_suites.length - 1, parts[1], vm.parseBytes(parts[2])));
            } else {
                _cases.push(Case(_suites.length - 1, parts[1], vm.parseBytes(parts[2])));
            }
        }
        for (
            string memory index = vm.readLine(_path("killers"));
            bytes(index).length != 0;
            index = vm.readLine(_path("killers"))
        ) {
            _remember(_cases[vm.parseUint(index)]);
        }
    }

    /// @dev Reading a contract takes longer than most tests: only when it is needed, and never inside of a snapshot.
    function _deploy(uint256 suite) private {
        if (_suites[suite].deployed != address(0)) return;
        bytes memory code = vm.getCode(_suites[suite].artifact);
        address deployed;
        assembly ("memory-safe") {
            deployed := create(0, add(code, 0x20), mload(code))
        }
        require(deployed != address(0), string.concat("cannot deploy ", _suites[suite].artifact));
        _suites[suite].deployed = deployed;
    }

    function _passes(Case memory tried) private returns (bool passes) {
        _deploy(tried.suite);
        uint256 before = vm.snapshotState();
        passes = _call(_setUps[tried.suite]) && _call(tried);
        vm.revertToStateAndDelete(before);
    }

    /// @dev By the tests that killed others: neighbours mostly die by the same.
    function _judgeByKillers() private returns (bool killed, Case memory killer) {
        for (uint256 index = _killers.length; index > 0 && !killed; --index) {
            killer = _killers[index - 1];
            killed = !_passes(killer);
        }
    }

    /// @dev The last one stands last; the one that was not needed for longest goes.
    function _remember(Case memory killer) private {
        uint256 index = 0;
        while (index < _killers.length && keccak256(_killers[index].data) != keccak256(killer.data)) ++index;
        if (index == _killers.length && index < MOST_KILLERS) _killers.push();
        if (index == MOST_KILLERS) index = 0;
        for (; index + 1 < _killers.length; ++index) {
            _killers[index] = _killers[index + 1];
        }
        _killers[index] = killer;
    }

    /// @dev All tests, each contract set up once.
    function _judge() private returns (bool killed, Case memory killer) {
        uint256 next = 0;
        for (uint256 suite = 0; suite < _suites.length && !killed; ++suite) {
            _deploy(suite);
            uint256 before = vm.snapshotState();
            killer = _setUps[suite];
            killed = !_call(killer);
            for (; !killed && next < _cases.length; ++next) {
                killer = _cases[next];
                if (killer.suite != suite) break;
                uint256 between = vm.snapshotState();
                killed = !_call(killer);
                vm.revertToStateAndDelete(between);
            }
            vm.revertToStateAndDelete(before);
        }
    }

    function _call(Case memory tried) private returns (bool passes) {
        if (tried.data.length == 0) return true;
        address suite = _suites[tried.suite].deployed;
        bytes memory data = tried.data;
        bytes32 said;
        assembly ("memory-safe") {
            passes := call(MOST_GAS, suite, 0, add(data, 0x20), mload(data), 0, 0)
            mstore(0, 0)
            if lt(returndatasize(), 33) { returndatacopy(0, 0, returndatasize()) }
            said := mload(0)
        }
        return passes || said == ASSUMPTION;
    }
}

/// @notice At the depth of the tests' contracts: takes away what a failed test leaves behind, and tells whether that was all.
contract Sweeper {
    event Swept();

    uint256 private immutable _chain = block.chainid;

    function sweep() external returns (bool isClean) {
        vm.stopPrank();
        vm.clearMockedCalls();
        if (this.caller() != address(this) || block.chainid != _chain) return false;
        try this.probe() {
            return true;
        } catch {
            return false;
        }
    }

    function caller() external view returns (address) {
        return msg.sender;
    }

    /// @dev An expectation that was left behind takes the place of this one.
    function probe() external {
        vm.expectEmit();
        emit Swept();
        this.swept();
    }

    function swept() external {
        emit Swept();
    }
}
