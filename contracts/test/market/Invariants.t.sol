// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {FeeSchedule} from "../../src/Types.sol";
import {HostileToken} from "../invariant/HostileToken.sol";
import {MovingFeed} from "../invariant/MovingFeed.sol";
import {World} from "../invariant/World.sol";
import {MarketHandler} from "./MarketHandler.sol";
import {MarketTest} from "./MarketTest.sol";
import {Permit2} from "./Permit2.sol";
import {PermitToken} from "./Tokens.sol";

/// @notice The numbered invariants of the market, E1 to E12 of the protocol. Each is a campaign of its own over the same steps:
/// whatever {MarketHandler} did, in every order that a fuzzer thinks of, each of them holds after every single step. At the
/// end of a run everybody takes what is theirs and leaves.
/// @dev Outside of these: tokens that take a fee or rebase (E1 assumes that a balance moves by transfers alone).
contract MarketInvariantsTest is MarketTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint16 private constant SCHEDULE = 6;
    /// @dev Steps of the walk in {test_walkGetsEverywhere}: as many as 40 runs of a campaign have.
    uint256 private constant WALKS = 40;
    uint256 private constant WALK_LENGTH = 100;

    MarketHandler private _handler;

    function setUp() public override {
        super.setUp();
        FeeSchedule memory schedule = FeeSchedule(777, 999, 333, 1_234, 12_345);
        escrow.addFeeSchedule(schedule, 111);
        FeeSchedule memory dearer = FeeSchedule(500, 1_500, 0, 3_000, 54_321);
        escrow.addFeeSchedule(dearer, 0);

        HostileToken hostile = new HostileToken();
        PermitToken fair = new PermitToken();
        MovingFeed movingFeed = new MovingFeed(1e8);
        uint8 fairId = _listAt(address(fair), "FAIR", movingFeed);
        uint8 hostileId = _listAt(address(hostile), "HOSTILE", movingFeed);
        World.Roles memory roles = World.Roles({
            admin: address(this),
            registry: address(registry),
            taskManager: taskManager,
            disputes: disputes,
            slasher: leaseSlasher,
            responder: responder,
            foundation: foundation
        });
        _handler = new MarketHandler(escrow, book, tokens, hostile, hostileId, movingFeed, roles);
        _handler.addToken(fairId, address(fair), SCHEDULE, type(uint128).max);
        _handler.addToken(hostileId, address(hostile), SCHEDULE, type(uint128).max);
        _addSchedules(schedule, dearer);
        _addPeople();
        _begin();
    }

    function _listAt(address token, string memory symbol, MovingFeed priced) private returns (uint8) {
        IPaymentTokens.PriceFeed memory given = IPaymentTokens.PriceFeed(address(priced), 30 days, 1, 100e8);
        return tokens.list(token, symbol, SCHEDULE, given, type(uint128).max);
    }

    /// @dev As the harness has added them, written down once more.
    function _addSchedules(FeeSchedule memory third, FeeSchedule memory fourth) private {
        _handler.addSchedules(FeeSchedule(2_000, 0, 0, GATEWAY_SHARE, MATCH_FEE), REBATED_COMMISSION);
        _handler.addSchedules(FeeSchedule(2_000, 200, 200, GATEWAY_SHARE, MATCH_FEE), REBATED_COMMISSION);
        _handler.addSchedules(third, 111);
        _handler.addSchedules(fourth, 0);
    }

    /// @dev Two providers, one of them with small capacity, and a fizz node behind each.
    function _addPeople() private {
        _handler.addUser("first user");
        _handler.addUser("second user");
        _handler.addUser("third user");
        _handler.addSpender("first spender");
        _handler.addSpender("second spender");
        for (uint256 index = 0; index < 2; ++index) {
            string memory number = vm.toString(index);
            uint256 capacity = _capacity(index == 0 ? 10_000 : 700, 4_096, 4_096);
            (address owner, uint32 provider) =
                _addProvider(string.concat("supplier", number), _withGpus(_withGpus(capacity, 0, 1, 4), 1, 2, 4));
            _handler.addSupplier(owner, provider, 0, false);
            uint32 fizz = uint32(100 + index);
            address fizzOwner = _addFizz(string.concat("fizz", number), fizz, provider);
            if (index == 1) {
                vm.prank(address(registry));
                book.setFeeClass(fizz, true);
            }
            _handler.addSupplier(fizzOwner, fizz, provider, index == 1);
        }
    }

    /// @dev Every run begins in the middle, with leases that live.
    function _begin() private {
        _handler.fundAll();
        for (uint256 seed = 0; seed < 4; ++seed) {
            _handler.lease(seed, uint256(keccak256(abi.encode(seed))), seed << 8);
            _handler.grant(seed, type(uint256).max >> 1);
        }
    }

    function _permit2() internal override returns (address) {
        return Permit2.deploy(vm);
    }

    // ----------------------------------------------------------------- the campaign

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_handler), _handler.selectors());
    }

    /// @notice E1: per token, the balance is the sum of unlocked amounts, locks less what was paid from them, and credits.
    function invariant_E1_solvency() external view {
        assertEq(_handler.solvency(), "", "E1");
    }

    /// @notice E2: per order, what it took in is paid, fees, returned or left, to the unit; per account, nothing is lost.
    function invariant_E2_conservation() external view {
        assertEq(_handler.conservation(), "", "E2");
    }

    /// @notice E3: paid is at most streamed and at most locked, nothing inside the payout hold, and all payees have it exactly.
    function invariant_E3_noOverpayment() external view {
        assertEq(_handler.noOverpayment(), "", "E3");
    }

    /// @notice E4: no lease, and nobody without the right, moves another's funds, nor may by what it proposed once.
    function invariant_E4_separation() external view {
        assertEq(_handler.separation(), "", "E4");
        assertEq(_handler.proposals(), "", "E4");
    }

    /// @notice E5: any number of settlements pays what one would.
    function invariant_E5_pathIndependence() external view {
        assertEq(_handler.pathIndependence(), "", "E5");
    }

    /// @notice E6: rounding is in the user's favour, and dust comes back with the close.
    function invariant_E6_rounding() external view {
        assertEq(_handler.rounding(), "", "E6");
    }

    /// @notice E7: fees are under their immutable caps, and frozen in the lease.
    function invariant_E7_feeCaps() external view {
        assertEq(_handler.feeCaps(), "", "E7");
    }

    /// @notice E8: billed time only grows, and is never in the future.
    function invariant_E8_billedTime() external view {
        assertEq(_handler.billedTime(), "", "E8");
    }

    /// @notice E9: states go one way.
    function invariant_E9_oneWay() external view {
        assertEq(_handler.oneWay(), "", "E9");
    }

    /// @notice E10: at the end of funds and grace a lease is over by itself, anyone may close it, and not before.
    function invariant_E10_endOfFunds() external view {
        assertEq(_handler.broken(10), "", "E10");
    }

    /// @notice E11: nothing that ends a lease, and no payment of another token, waits for a transfer.
    function invariant_E11_liveness() external view {
        assertEq(_handler.broken(11), "", "E11");
    }

    /// @notice E12: taking a token off the list, or pausing the market, stops what is new and nothing else.
    function invariant_E12_delisting() external view {
        assertEq(_handler.broken(12), "", "E12");
    }

    /// @notice What is used of a supplier's capacity is what its live leases use.
    function invariant_capacityIsWhatLeasesUse() external view {
        assertEq(_handler.capacityInUse(), "", "capacity");
    }

    /// @dev The end of every run. Two of five steps at least found something to do, or the campaign says little.
    function afterInvariant() external {
        if (_handler.steps() >= 60) {
            assertGe(_handler.fruitful() * 5, _handler.steps() * 2, "steps that did something, in fifths");
        }
        _handler.everybodyLeaves();
        _checkAll();
    }

    function _checkAll() private view {
        string[13] memory problems = [
            _handler.solvency(),
            _handler.conservation(),
            _handler.noOverpayment(),
            _handler.separation(),
            _handler.pathIndependence(),
            _handler.rounding(),
            _handler.feeCaps(),
            _handler.billedTime(),
            _handler.oneWay(),
            _handler.broken(10),
            _handler.broken(11),
            _handler.broken(12),
            _handler.capacityInUse()
        ];
        for (uint256 index = 0; index < problems.length; ++index) {
            assertEq(problems[index], "", string.concat("E", vm.toString(index + 1)));
        }
        assertEq(_handler.proposals(), "", "E4, updates");
    }

    // ---------------------------------------------------------------------- coverage

    /// @notice Forty runs of the campaign, from fixed seeds, get to everything there is to get to: else the invariants
    /// would hold of nothing.
    function test_walkGetsEverywhere() external {
        uint256[] memory total = new uint256[](uint256(World.Reached.COUNT));
        uint256 start = vm.snapshotState();
        for (uint256 walk = 0; walk < WALKS; ++walk) {
            _walk(walk);
            for (uint256 what = 0; what < total.length; ++what) {
                total[what] += _handler.reached(what);
            }
            _handler.everybodyLeaves();
            _checkAll();
            vm.revertToState(start);
        }
        for (uint256 what = 0; what < total.length; ++what) {
            assertGe(total[what], 2, string.concat("times reached, number ", vm.toString(what)));
        }
    }

    function _walk(uint256 walk) private {
        bytes4[] memory selectors = _handler.selectors();
        for (uint256 step = 0; step < WALK_LENGTH; ++step) {
            uint256 seed = uint256(keccak256(abi.encode(walk, step)));
            bytes4 selector = selectors[seed % selectors.length];
            (bool success,) = address(_handler)
                .call(
                    abi.encodePacked(selector, seed >> 8, keccak256(abi.encode(seed)), keccak256(abi.encode(seed, 1)))
                );
            assertTrue(success, string.concat("step ", vm.toString(seed % selectors.length)));
            _checkAll();
        }
    }
}
