// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BidRequest, CloseRequest, OrderRequest, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {Erc2612} from "./Erc2612.sol";
import {MarketTest} from "./MarketTest.sol";
import {Permit2} from "./Permit2.sol";
import {SignedRequests} from "./SignedRequests.sol";
import {PermitToken} from "./Tokens.sol";

/// @notice No call costs more because the market is bigger: all that users, providers, the quorum and those who dispute and slash
/// may call, measured alone and among two hundred others, to the unit.
contract GasGrowthTest is MarketTest {
    uint96 private constant RATE = 90e18;
    uint256 private constant OTHERS = 200;
    uint256 private constant USERS_KEY = uint256(keccak256("user"));
    /// @dev Without the bids on one order, which are measured apart.
    uint256 private constant CALLS = 30;

    address private _owner;
    uint32 private _provider;
    uint64[7] private _leases;
    uint64 private _order;
    PermitToken private _permitted;
    uint8 private _permittedId;
    uint256 private _block;
    uint256 private _time;

    uint256[] private _gas;
    string[] private _names;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider", _capacity(1_000_000, 1_000_000, 1_000_000));
        for (uint256 index = 0; index < _leases.length; ++index) {
            _leases[index] = _lease(_owner, _provider, RATE);
        }
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        plain.mint(address(this), 1e24);
        _listPermitted();
        (_block, _time) = (block.number + 1, block.timestamp);
        vm.roll(_block);
        _order = _createOrder();
    }

    function _listPermitted() private {
        _permitted = new PermitToken();
        _permittedId = _list(address(_permitted), "PERMIT", PLAIN_SCHEDULE);
        _permitted.mint(user, 1e24);
        plain.mint(user, 1e24);
        vm.prank(user);
        plain.approve(Permit2.DEPLOYED, type(uint256).max);
    }

    function _permit2() internal override returns (address) {
        return Permit2.deploy(vm);
    }

    function test_gas_isTheSameAmongOtherAccountsLeasesAndProviders() public {
        uint256[] memory alone = _measured();
        for (uint256 index = 0; index < OTHERS; ++index) {
            string memory name = string.concat("other", vm.toString(index));
            (address owner, uint32 provider) = _addProvider(name);
            uint32 opened = escrow.open(makeAddress(name));
            _deposit(opened, PLAIN_TOKEN, 1_000e18);
            vm.prank(owner);
            uint64 orderId = book.createOrder(opened, PLAIN_TOKEN, 0, _terms());
            _bid(owner, orderId, RATE);
            _open(orderId, provider);
        }
        _assertSame(alone, _measured());
    }

    function test_gas_isTheSameAmongOnesOwnOrdersAndLeases() public {
        uint256[] memory alone = _measured();
        for (uint256 index = 0; index < OTHERS; ++index) {
            _open(_createOrder(), _provider);
        }
        _assertSame(alone, _measured());
    }

    /// @dev Bids fold into one word, however many there are.
    function test_gas_isTheSameAmongOtherBids() public {
        (address owner,) = _addProvider("bidder");
        (address other,) = _addProvider("other bidder");
        // The first one opens the order's digest.
        _bid(other, _order, RATE);
        uint256 state = vm.snapshotState();
        _bid(owner, _order, RATE);
        uint256 alone = vm.lastCallGas().gasTotalUsed;
        vm.revertToState(state);
        for (uint256 index = 0; index < OTHERS; ++index) {
            (address another,) = _addProvider(string.concat("bidder", vm.toString(index)));
            _bid(another, _order, RATE);
        }
        _bid(owner, _order, RATE);
        assertEq(vm.lastCallGas().gasTotalUsed, alone, "placeBid");
    }

    // ----------------------------------------------------------------- private

    function _open(uint64 orderId, uint32 provider) private {
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, _terms(), _rank(provider, RATE)));
        vm.roll(_block);
    }

    /// @dev Every call once, in the same second and block, and nothing of it left.
    function _measured() private returns (uint256[] memory gas) {
        uint256 state = vm.snapshotState();
        delete _gas;
        delete _names;
        vm.roll(_block);
        vm.warp(_time);
        plain.approve(address(escrow), type(uint256).max);
        _measureDeposits();
        _measureAccounts();
        _measureLeases();
        _measureUpdates();
        _measureSigned();
        _measureOrders();
        // Another time and block, another owner: the last ones.
        _measureEnds();
        gas = _gas;
        // Kept across the revert, which ends everything that was written.
        string[] memory names = _names;
        vm.revertToState(state);
        _names = names;
    }

    function _measureDeposits() private {
        escrow.deposit(account, PLAIN_TOKEN, 1e18);
        _note("deposit");
        Erc2612.Permit memory approval = Erc2612.Permit(user, address(escrow), 1e18, 0, type(uint256).max);
        (uint8 v, bytes32 r, bytes32 s) = Erc2612.sign(vm, USERS_KEY, address(_permitted), approval);
        vm.prank(user);
        escrow.depositWithPermit(account, _permittedId, 1e18, type(uint256).max, v, r, s);
        _note("depositWithPermit");
        Permit2.Permit memory permit = Permit2.Permit(address(plain), 1e18, address(escrow), 0, type(uint256).max);
        bytes memory signature = Permit2.sign(vm, USERS_KEY, permit);
        vm.prank(user);
        escrow.depositWithPermit2(account, PLAIN_TOKEN, 1e18, 0, permit.deadline, signature);
        _note("depositWithPermit2");
    }

    function _measureAccounts() private {
        escrow.open(user);
        _note("open");
        vm.prank(user);
        escrow.setSpendingRight(account, responder, PLAIN_TOKEN, SpendingRight(1e18, type(uint40).max, true));
        _note("setSpendingRight");
        escrow.updateBracket(account, PLAIN_TOKEN);
        _note("updateBracket");
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, 1e18, user);
        _note("withdraw");
        vm.prank(responder);
        escrow.withdrawCredit(PLAIN_TOKEN, responder);
        _note("withdrawCredit");
    }

    function _measureLeases() private {
        book.settle(_ids(_leases[0]));
        _note("settle");
        vm.prank(_owner);
        book.settleAndWithdraw(_ids(_leases[1]), _owner);
        _note("settleAndWithdraw");
        vm.prank(user);
        leases.extendLease(_leases[2], 60);
        _note("extendLease");
        _close(user, _leases[2], OrderState.ClosedByUser);
        _note("closeLease");
        vm.prank(user);
        leases.rateLease(_leases[2], 10);
        _note("rateLease");
        vm.prank(leaseSlasher);
        leases.slashLease(_leases[3], 0, _leaseResources(_terms()));
        _note("slashLease");
    }

    function _measureUpdates() private {
        vm.prank(user);
        leases.proposeUpdate(_leases[4], _terms(), type(uint40).max);
        _note("proposeUpdate");
        vm.prank(_owner);
        uint64 updated = leases.acceptUpdate(_leases[4], _leaseResources(_terms()), _terms(), RATE);
        _note("acceptUpdate");
        vm.prank(user);
        leases.proposeUpdate(updated, _terms(), type(uint40).max);
        bytes32 proposed = leases.updateProposal(updated).hash;
        vm.prank(_owner);
        leases.rejectUpdate(updated, proposed);
        _note("rejectUpdate");
        vm.prank(disputes);
        leases.undoLease(updated, _leaseResources(_terms()));
        _note("undoLease");
    }

    function _measureSigned() private {
        vm.prank(user);
        leases.skipNonce();
        _note("skipNonce");
        OrderRequest memory order =
            OrderRequest(user, account, PLAIN_TOKEN, 0, PLAIN_SCHEDULE, _terms(), 1, type(uint256).max);
        bytes memory signature = SignedRequests.sign(vm, USERS_KEY, order, address(book));
        leases.createOrderFor(order, signature);
        _note("createOrderFor");
        CloseRequest memory close = CloseRequest(user, _leases[5], 2, type(uint256).max);
        signature = SignedRequests.sign(vm, USERS_KEY, close, address(book));
        leases.closeFor(close, _leaseResources(_terms()), signature);
        _note("closeFor");
    }

    function _measureOrders() private {
        uint64 created = _createOrder();
        _note("createOrder");
        vm.prank(user);
        book.cancelOrder(created);
        _note("cancelOrder");
        _bid(_owner, _order, RATE);
        _note("placeBid");
        BidRequest[] memory bids = new BidRequest[](1);
        bids[0] = BidRequest(_createOrder(), 0, RATE);
        vm.prank(_owner);
        book.placeBids(bids);
        _note("placeBids");
        vm.prank(_owner);
        book.setCapacity(_capacity(1_000_001, 1_000_001, 1_000_001));
        _note("setCapacity");
        uint256 closeBlock = book.order(_order).closeBlock;
        vm.roll(closeBlock + 1);
        OrderTerms memory terms = _terms();
        _openLeases(closeBlock, _matches(_order, terms, _rank(_provider, RATE)));
        _note("openLeases");
    }

    function _measureEnds() private {
        uint64 expirable = _createOrder();
        vm.roll(book.order(expirable).closeBlock);
        book.expireOrders(_ids(expirable));
        _note("expireOrders");
        (uint256 end,) = leases.endOf(_leases[6]);
        vm.warp(end - 1);
        leases.announceLowFunds(_ids(_leases[6]));
        _note("announceLowFunds");
        assertTrue(book.order(_leases[6]).noted, "announced");
        vm.prank(user);
        escrow.transferFrom(user, responder, account);
        _note("transferFrom");
    }

    function _note(string memory name) private {
        _gas.push(vm.lastCallGas().gasTotalUsed);
        _names.push(name);
    }

    function _assertSame(uint256[] memory alone, uint256[] memory among) private view {
        assertEq(alone.length, CALLS, "calls");
        assertEq(alone.length, among.length, "calls");
        for (uint256 index = 0; index < alone.length; ++index) {
            assertEq(among[index], alone[index], _names[index]);
        }
    }
}
