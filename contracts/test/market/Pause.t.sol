// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {BidRequest, CloseRequest, LeaseResources, OrderRequest, OrderState, OrderTerms} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice A wallet whose signature is anything.
contract Agreeing {
    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }
}

/// @notice A pause stops what brings new risk in: orders, bids, matches, updates. It never stops money from leaving or a lease
/// from going on or ending.
contract PauseTest is MarketTest {
    uint96 private constant RATE = 90e18;

    address private _owner;
    uint32 private _provider;
    uint64 private _leased;
    uint64 private _open;
    uint256 private _start;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _leased = _lease(_owner, _provider, RATE);
        _start = block.timestamp;
        vm.prank(user);
        leases.proposeUpdate(_leased, _terms(), type(uint40).max);
        _open = _createOrder();
        vm.expectEmit(address(book));
        emit IOrderBook.Paused(address(this));
        book.pause();
        assertTrue(book.paused(), "paused");
    }

    // ------------------------------------------------------------------- stops

    function test_pause_stopsOrders() public {
        _expectPaused();
        _createOrder();
        address signer = address(new Agreeing());
        OrderRequest memory request =
            OrderRequest(signer, account, PLAIN_TOKEN, 0, PLAIN_SCHEDULE, _terms(), 0, type(uint256).max);
        _expectPaused();
        leases.createOrderFor(request, "");
        book.unpause();
        assertState(_createOrder(), OrderState.Open);
    }

    function test_pause_stopsBids() public {
        _expectPaused();
        _bid(_owner, _open, RATE);
        BidRequest[] memory bids = new BidRequest[](1);
        bids[0] = BidRequest(_open, 0, RATE);
        _expectPaused();
        vm.prank(_owner);
        book.placeBids(bids);
        book.unpause();
        vm.prank(_owner);
        book.placeBids(bids);
    }

    function test_pause_stopsMatches() public {
        uint256 closeBlock = book.order(_open).closeBlock;
        vm.roll(closeBlock + 1);
        uint256[] memory matches = _matches(_open, _terms(), _rank(_provider, RATE));
        _expectPaused();
        _openLeases(closeBlock, matches);
        // Nor does an answer that no supplier won come in.
        _expectPaused();
        _openLeases(closeBlock, _matches(_open, _terms(), new uint256[](0)));
        book.unpause();
        _openLeases(closeBlock, matches);
        assertState(_open, OrderState.Leased);
    }

    function test_pause_stopsUpdates() public {
        _expectPaused();
        vm.prank(user);
        leases.proposeUpdate(_leased, _terms(), type(uint40).max);
        _expectPaused();
        vm.prank(_owner);
        leases.acceptUpdate(_leased, _leaseResources(_terms()), _terms(), RATE);
        assertState(_leased, OrderState.Leased);
        book.unpause();
        vm.prank(_owner);
        assertState(leases.acceptUpdate(_leased, _leaseResources(_terms()), _terms(), RATE), OrderState.Leased);
    }

    // ------------------------------------------------------------ never stops

    function test_pause_neverStopsCancelling() public {
        vm.prank(user);
        book.cancelOrder(_open);
        assertState(_open, OrderState.Cancelled);
    }

    function test_pause_neverStopsExpiry() public {
        vm.roll(book.order(_open).closeBlock);
        book.expireOrders(_ids(_open));
        assertState(_open, OrderState.Expired);
    }

    function test_pause_neverStopsPayments() public {
        vm.warp(_start + 700);
        vm.prank(_owner);
        assertGt(book.settleAndWithdraw(_ids(_leased), _owner), 0, "withdrawn");
        vm.warp(_start + 800);
        book.settle(_ids(_leased));
        vm.prank(_owner);
        assertGt(escrow.withdrawCredit(PLAIN_TOKEN, _owner), 0, "credit");
        vm.prank(responder);
        assertEq(escrow.withdrawCredit(PLAIN_TOKEN, responder), MATCH_FEE, "match fee");
        _deposit(account, PLAIN_TOKEN, 1e18);
        (uint256 unlocked,,) = escrow.balances(account, PLAIN_TOKEN);
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, unlocked, user);
    }

    function test_pause_neverStopsCloses() public {
        LeaseResources memory resources = _leaseResources(_terms());
        uint256 state = vm.snapshotState();
        _close(user, _leased, OrderState.ClosedByUser);
        vm.revertToState(state);
        _close(_owner, _leased, OrderState.ClosedMaintenance);
        vm.revertToState(state);
        vm.warp(_start + 100_000);
        _close(address(this), _leased, OrderState.ClosedAtEnd);
        vm.revertToState(state);
        vm.prank(disputes);
        leases.undoLease(_leased, resources);
        vm.revertToState(state);
        vm.prank(leaseSlasher);
        leases.slashLease(_leased, 0, resources);
        assertState(_leased, OrderState.ClosedSlashed);
    }

    function test_pause_neverStopsSignedCloses() public {
        uint256 key = vm.createWallet("signer").privateKey;
        vm.prank(user);
        escrow.transferFrom(user, vm.addr(key), account);
        CloseRequest memory request = CloseRequest(vm.addr(key), _leased, 0, type(uint256).max);
        bytes32 typeHash = keccak256("CloseRequest(address signer,uint64 orderId,uint256 nonce,uint256 deadline)");
        bytes32 structHash = keccak256(abi.encode(typeHash, request));
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Spheron Market"),
                keccak256("1"),
                block.chainid,
                address(book)
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked("\x19\x01", domain, structHash)));
        leases.closeFor(request, _leaseResources(_terms()), abi.encodePacked(r, s, v));
        assertState(_leased, OrderState.ClosedByUser);
    }

    function test_pause_neverStopsLeasesFromGoingOn() public {
        vm.prank(user);
        leases.extendLease(_leased, 100);
        vm.warp(_start + 3_650);
        leases.announceLowFunds(_ids(_leased));
        assertTrue(book.order(_leased).noted, "announced");
        bytes32 proposed = leases.updateProposal(_leased).hash;
        vm.prank(_owner);
        leases.rejectUpdate(_leased, proposed);
        _close(user, _leased, OrderState.ClosedByUser);
        vm.prank(user);
        leases.rateLease(_leased, 10);
        vm.prank(_owner);
        book.setCapacity(_capacity(20_000, 65_536, 4_096));
    }

    // ---------------------------------------------------------------- governance

    function test_pause_isRestricted() public {
        bytes memory unauthorized = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, user);
        vm.startPrank(user);
        vm.expectRevert(unauthorized);
        book.pause();
        vm.expectRevert(unauthorized);
        book.unpause();
        vm.stopPrank();
    }

    /// @dev Other changes neither end a pause nor are undone by one.
    function test_pause_outlivesOtherChanges() public {
        book.setBidding(3, 100, 2);
        book.proposeCollaborator(IOrderBook.Collaborator.TaskManager, responder);
        book.proposeCollaborator(IOrderBook.Collaborator.ProviderRegistry, responder);
        vm.roll(block.number + 2 * (MAXIMUM_BID_WINDOW + RESPONSE_WINDOW + MATCH_WINDOW) + 1);
        vm.warp(block.timestamp + CHALLENGE_WINDOW + 1);
        book.acceptCollaborator(IOrderBook.Collaborator.TaskManager);
        book.acceptCollaborator(IOrderBook.Collaborator.ProviderRegistry);
        assertTrue(book.paused(), "still paused");
        _expectPaused();
        _createOrder();
        uint256 closeBlock = block.number - 1;
        _expectPaused();
        vm.prank(responder);
        book.openLeases(uint32(closeBlock), new uint256[](0), responder);
        // Twice is once.
        book.pause();
        vm.expectEmit(address(book));
        emit IOrderBook.Unpaused(address(this));
        book.unpause();
        assertFalse(book.paused(), "goes on");
        assertEq(book.collaborator(IOrderBook.Collaborator.TaskManager), responder, "task manager");
        assertEq(book.collaborator(IOrderBook.Collaborator.ProviderRegistry), responder, "registry");
        IOrderBook.Parameters memory now_ = book.parameters();
        assertEq(now_.bidWindow, 3, "bid window");
        assertEq(now_.bidLimit, 100, "bid limit");
        assertEq(now_.paramsVersion, 2, "version");
        OrderTerms memory terms = _terms();
        terms.requirements += uint256(1) << 88;
        assertState(_createOrder(terms), OrderState.Open);
    }

    /// @dev What a pause keeps from being answered ends like what nobody answered: the money is back.
    function test_pause_longerThanTheWindows() public {
        vm.roll(book.order(_open).closeBlock + RESPONSE_WINDOW + MATCH_WINDOW + 1);
        book.expireOrders(_ids(_open));
        (, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        assertEq(locked, escrow.lockFor(RATE, 3_600, PLAIN_SCHEDULE) - MATCH_FEE, "the live lease's alone");
    }

    // ----------------------------------------------------------------- private

    function _expectPaused() private {
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.MarketPaused.selector), address(book));
    }
}
