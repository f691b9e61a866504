// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Escrow} from "../../src/market/Escrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderBook} from "../../src/market/OrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {PaymentTokens} from "../../src/registry/PaymentTokens.sol";
import {LeaseResources, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {Test} from "../Test.sol";
import {BlocklistToken} from "./Tokens.sol";

/// @notice Everybody who uses the market, at random: users, suppliers, the quorum, strangers, governance, and a token that
/// blocks whom it likes. Keeps its own books next to those of the contracts.
contract MarketHandler is Test {
    struct Placed {
        uint64 orderId;
        uint256 resources;
        bytes32 restHash;
        uint16 schedule;
        uint96 maximumRate;
        uint32 duration;
    }

    Escrow public immutable escrow;
    OrderBook public immutable book;
    PaymentTokens public immutable tokens;
    BlocklistToken public immutable token;
    uint8 public immutable tokenId;
    address public immutable admin;
    address public immutable taskManager;
    address public immutable responder;
    address public immutable disputes;

    address[] private _users;
    uint32[] private _accounts;
    address[] private _owners;
    uint32[] private _suppliers;
    Placed[] private _placed;

    mapping(uint64 orderId => OrderState) public lastState;
    mapping(uint64 orderId => uint32) public lastSettledFor;
    /// @notice What left the escrow for each payee.
    mapping(address payee => uint256) public received;
    mapping(uint32 account => uint256) public deposited;
    mapping(uint32 account => uint256) public withdrawn;
    uint256 public matches;
    /// @notice Broken promises, in words; empty as long as all is well.
    string public broken;
    /// @notice How often each kind of step did something, so that a run that never gets anywhere shows.
    mapping(string step => uint256) public done;

    constructor(
        Escrow escrow_,
        OrderBook book_,
        PaymentTokens tokens_,
        BlocklistToken token_,
        uint8 tokenId_,
        address taskManager_,
        address responder_,
        address disputes_
    ) {
        (escrow, book, tokens, token, tokenId) = (escrow_, book_, tokens_, token_, tokenId_);
        (admin, taskManager, responder, disputes) = (msg.sender, taskManager_, responder_, disputes_);
    }

    function addUser(address owner, uint32 account) external {
        vm.assume(msg.sender == admin);
        _users.push(owner);
        _accounts.push(account);
    }

    function addSupplier(address owner, uint32 supplier) external {
        vm.assume(msg.sender == admin);
        _owners.push(owner);
        _suppliers.push(supplier);
    }

    // -------------------------------------------------------------------- users

    function deposit(uint256 seed, uint256 amount) external {
        uint32 account = _accounts[seed % _accounts.length];
        amount = bound(amount, 1, 1_000e18);
        if (token.blocked(address(escrow))) return;
        token.mint(address(this), amount);
        token.approve(address(escrow), amount);
        escrow.deposit(account, tokenId, amount);
        deposited[account] += amount;
        ++done["deposit"];
    }

    function withdraw(uint256 seed, uint256 amount) external {
        uint256 index = seed % _accounts.length;
        (uint256 unlocked,,) = escrow.balances(_accounts[index], tokenId);
        if (unlocked == 0) return;
        amount = bound(amount, 1, unlocked);
        vm.prank(_users[index]);
        try escrow.withdraw(_accounts[index], tokenId, amount, _users[index]) {
            withdrawn[_accounts[index]] += amount;
            ++done["withdraw"];
        } catch {
            if (!token.blocked(_users[index])) broken = "an unlocked amount could not be withdrawn";
        }
    }

    function createOrder(uint256 seed, uint256 rateSeed, uint256 resourceSeed) external {
        uint256 index = seed % _accounts.length;
        OrderTerms memory terms;
        terms.resources = (resourceSeed & 0xff) | ((1 + ((resourceSeed >> 8) & 0xff)) << 22)
            | ((1 + ((resourceSeed >> 16) & 0x3ff)) << 42);
        uint256 gpus = (resourceSeed >> 32) & 3;
        if (gpus != 0) terms.resources |= (gpus << 62) | (6 << 96);
        terms.requirements = (0xfe << 8) | (1 << 88);
        terms.regions = type(uint256).max;
        terms.manifestHash = bytes32(seed | 1);
        terms.maximumRate = uint96(bound(rateSeed, 1, 1e20));
        terms.duration = uint32(bound(seed >> 8, 1, 10_000));
        (address tokenAddress, bool enabled, uint16 schedule) = escrow.tokenOf(tokenId);
        assertEq(tokenAddress, address(token), "token");
        (uint256 unlocked,,) = escrow.balances(_accounts[index], tokenId);
        bool affordable = unlocked >= escrow.lockFor(terms.maximumRate, terms.duration, schedule);
        vm.prank(_users[index]);
        try book.createOrder(_accounts[index], tokenId, uint16(seed % 4), terms) returns (uint64 orderId) {
            if (!enabled || !affordable) broken = "an order in a delisted token, or without the money";
            bytes32 restHash = keccak256(
                abi.encodePacked(
                    terms.requirements,
                    terms.regions,
                    terms.manifestHash,
                    uint256(terms.maximumRate),
                    uint256(terms.duration),
                    uint256(0),
                    uint256(0)
                )
            );
            _placed.push(Placed(orderId, terms.resources, restHash, schedule, terms.maximumRate, terms.duration));
            ++done["createOrder"];
        } catch {
            if (enabled && affordable) broken = "a good order was refused";
        }
    }

    function cancel(uint256 seed) external {
        (bool found, uint64 orderId,) = _some(seed, OrderState.Open);
        if (!found) return;
        uint256 closeBlock = book.order(orderId).closeBlock;
        // While an answer may come, the order waits for it.
        if (block.number >= closeBlock && block.number <= closeBlock + book.parameters().responseWindow) return;
        vm.prank(escrow.ownerOf(orderId >> 32));
        book.cancelOrder(orderId);
        ++done["cancel"];
    }

    function close(uint256 seed, uint256 reasonSeed) external {
        (bool found, uint64 orderId, uint256 index) = _some(seed, OrderState.Leased);
        if (!found) return;
        Order memory order = book.order(orderId);
        OrderState reason = OrderState(bound(reasonSeed, 5, 10));
        (, uint256 graceEnd) = ILeases(address(book)).endOf(orderId);
        bool over = block.timestamp >= graceEnd;
        if (reason == OrderState.ClosedAtEnd && !over) return;
        address caller = reason == OrderState.ClosedByUser
            ? escrow.ownerOf(orderId >> 32)
            : over ? address(this) : book.supplierOwner(order.supplier);
        vm.prank(caller);
        // E10, E11: whoever may close can, at any time, whomever the token blocks.
        try ILeases(address(book)).closeLease(orderId, reason, LeaseResources(_placed[index].resources, _placed[index].restHash)) {
            ++done["close"];
        } catch {
            broken = "a lease could not be closed";
        }
    }

    // ---------------------------------------------------------------- suppliers

    function bid(uint256 seed, uint256 rate) external {
        (bool found, uint64 orderId,) = _some(seed, OrderState.Open);
        if (!found) return;
        Order memory order = book.order(orderId);
        vm.prank(_owners[seed % _owners.length]);
        try book.placeBid(orderId, 0, uint96(bound(rate, 1, order.rate))) {
            ++done["bid"];
        } catch {}
    }

    function setCapacity(uint256 seed) external {
        uint256 cpu = seed & 0xfff;
        uint256 gpus = (seed >> 12) & 7;
        uint256 capacity = (512 << 22) | (512 << 64) | (cpu << 104) | (seed & (1 << 252));
        if (gpus != 0) {
            capacity |= ((gpus << 12) | ((1 + ((seed >> 20) & 1)) << 24)) << (124 + 32 * ((seed >> 16) & 3));
        }
        vm.prank(_owners[(seed >> 32) % _owners.length]);
        book.setCapacity(capacity);
        ++done["setCapacity"];
    }

    function settleAndWithdraw(uint256 seed) external {
        uint256 index = seed % _owners.length;
        address owner = _owners[index];
        uint64[] memory own = new uint64[](_placed.length);
        uint256 count = 0;
        for (uint256 position = 0; position < _placed.length; ++position) {
            Order memory order = book.order(_placed[position].orderId);
            if (order.supplier == _suppliers[index]) own[count++] = _placed[position].orderId;
        }
        assembly {
            mstore(own, count)
        }
        if (count == 0) return;
        vm.prank(owner);
        try book.settleAndWithdraw(own, owner) returns (uint256 paid) {
            received[owner] += paid;
            ++done["settleAndWithdraw"];
        } catch {}
    }

    function withdrawCredit(uint256 seed) external {
        address payee = seed % 3 == 0 ? responder : _owners[seed % _owners.length];
        vm.prank(payee);
        try escrow.withdrawCredit(tokenId, payee) returns (uint256 paid) {
            received[payee] += paid;
            ++done["withdrawCredit"];
        } catch {
            if (escrow.creditOf(payee, tokenId) != 0 && !token.blocked(payee)) broken = "a credit was not paid";
        }
    }

    // ------------------------------------------------------------------- anyone

    function settle(uint256 seed) external {
        (bool found, uint64 orderId,) = _some(seed, seed % 2 == 0 ? OrderState.Leased : OrderState.ClosedByUser);
        if (!found) return;
        uint64[] memory ids = new uint64[](2);
        (ids[0], ids[1]) = (orderId, orderId);
        book.settle(ids);
        ++done["settle"];
    }

    function expire(uint256 seed) external {
        (bool found, uint64 orderId,) = _some(seed, OrderState.Open);
        if (!found) return;
        uint64[] memory ids = new uint64[](1);
        ids[0] = orderId;
        try book.expireOrders(ids) {
            ++done["expire"];
        } catch {
            // No state without a way out.
            IOrderBook.Parameters memory windows = book.parameters();
            uint256 last = uint256(book.order(orderId).closeBlock) + windows.responseWindow + windows.matchWindow;
            if (block.number > last) {
                broken = "an order could not expire";
            }
        }
    }

    /// @dev One close block at a time, all its orders, as the quorum answers.
    function answer(uint256 seed) external {
        (bool found, uint64 any,) = _some(seed, OrderState.Open);
        if (!found) return;
        uint32 closeBlock = book.order(any).closeBlock;
        if (block.number <= closeBlock) vm.roll(uint256(closeBlock) + 1);
        if (block.number > uint256(closeBlock) + book.parameters().responseWindow) return;
        _open(closeBlock, _openIn(closeBlock), seed);
        ++done["answer"];
    }

    /// @dev One order that nobody answered, as the rule run on chain does.
    function matchOnChain(uint256 seed) external {
        (bool found, uint64 orderId,) = _some(seed, OrderState.Open);
        if (!found) return;
        IOrderBook.Parameters memory windows = book.parameters();
        uint32 closeBlock = book.order(orderId).closeBlock;
        uint256 first = uint256(closeBlock) + windows.responseWindow + 1;
        if (block.number < first && seed % 3 == 0) vm.roll(first);
        if (block.number < first || block.number >= first + windows.matchWindow) return;
        uint64[] memory only = new uint64[](1);
        only[0] = orderId;
        _open(closeBlock, only, seed);
        ++done["matchOnChain"];
    }

    /// @dev A lease, live or closed, whose match was proven wrong.
    function undo(uint256 seed) external {
        (bool found, uint64 orderId, uint256 index) =
            _some(seed, seed % 2 == 0 ? OrderState.Leased : OrderState.ClosedByUser);
        if (!found) return;
        Order memory order = book.order(orderId);
        bool held = block.timestamp < uint256(order.start) + book.parameters().challengeWindow;
        vm.prank(disputes);
        try ILeases(address(book)).undoLease(orderId, LeaseResources(_placed[index].resources, _placed[index].restHash)) {
            if (!held) broken = "a lease was undone after its hold";
            ++done[order.state == OrderState.Leased ? "undo a live lease" : "undo a closed lease"];
        } catch {
            if (held) broken = "a lease could not be undone inside its hold";
        }
    }

    function _open(uint32 closeBlock, uint64[] memory ids, uint256 seed) private {
        uint256[] memory words = new uint256[](ids.length * 5);
        uint256 count = 0;
        for (uint256 index = 0; index < ids.length; ++index) {
            Placed memory placed = _placedOf(ids[index]);
            uint256 ranks = uint256(keccak256(abi.encode(seed, index))) % 3;
            words[count++] = (uint256(ids[index]) << 8) | ranks;
            if (ranks == 0) continue;
            words[count++] = placed.resources;
            // Sometimes of another order.
            words[count++] = uint256(placed.restHash) ^ (uint256(keccak256(abi.encode(index, seed))) % 8 == 0 ? 1 : 0);
            for (uint256 rank = 0; rank < ranks; ++rank) {
                uint256 supplier = _suppliers[(seed + rank) % _suppliers.length];
                words[count++] = (supplier << 118) | (bound(seed >> 64, 1, placed.maximumRate) << 2) | (seed & 3);
            }
        }
        assembly {
            mstore(words, count)
        }
        vm.prank(taskManager);
        book.openLeases(closeBlock, words, responder);
        for (uint256 index = 0; index < ids.length; ++index) {
            if (book.order(ids[index]).state == OrderState.Leased) ++matches;
        }
    }

    function pass(uint256 blocks, uint256 time) external {
        vm.roll(block.number + bound(blocks, 1, 12));
        vm.warp(block.timestamp + bound(time, 1, 1_500));
    }

    // --------------------------------------------------- governance, the token

    function setEnabled(uint256 seed) external {
        vm.prank(admin);
        tokens.setStatus(tokenId, seed % 4 != 0 ? IPaymentTokens.Status.Enabled : IPaymentTokens.Status.Delisted);
    }

    function setFeeSchedule(uint256 seed) external {
        vm.prank(admin);
        tokens.setFeeSchedule(tokenId, uint16(2 + 2 * (seed % 3)));
    }

    function setBlocked(uint256 seed) external {
        address[3] memory holders = [_owners[seed % _owners.length], _users[seed % _users.length], responder];
        token.setBlocked(holders[seed % 3], seed % 5 == 0);
    }

    // -------------------------------------------------------------------- books

    /// @notice Checks and remembers what may only move one way (E8, E9).
    function observe() external {
        for (uint256 index = 0; index < _placed.length; ++index) {
            uint64 orderId = _placed[index].orderId;
            Order memory order = book.order(orderId);
            OrderState last = lastState[orderId];
            bool oneWay = order.state == last || last == OrderState.None
                || (last == OrderState.Open && order.state != OrderState.None)
                || (last == OrderState.Leased && order.state >= OrderState.ClosedByUser)
                || (last >= OrderState.ClosedByUser && order.state == OrderState.ClosedUndone && order.settledFor == 0);
            if (!oneWay) broken = "a state went back";
            if (order.settledFor < lastSettledFor[orderId]) broken = "billed time went back";
            if (order.settledFor > order.duration) broken = "billed beyond the end";
            if (order.start != 0 && uint256(order.start) + order.settledFor > block.timestamp) {
                broken = "billed in the future";
            }
            (lastState[orderId], lastSettledFor[orderId]) = (order.state, order.settledFor);
        }
    }

    function placedCount() external view returns (uint256) {
        return _placed.length;
    }

    function placedAt(uint256 index) external view returns (Placed memory) {
        return _placed[index];
    }

    function accounts() external view returns (uint32[] memory) {
        return _accounts;
    }

    function suppliers() external view returns (address[] memory owners, uint32[] memory ids) {
        return (_owners, _suppliers);
    }

    // ------------------------------------------------------------------ private

    /// @dev The next order in a state, counted from a random one.
    function _some(uint256 seed, OrderState state) private view returns (bool, uint64 orderId, uint256 index) {
        for (uint256 step = 0; step < _placed.length; ++step) {
            index = (seed % _placed.length + step) % _placed.length;
            orderId = _placed[index].orderId;
            if (book.order(orderId).state == state) return (true, orderId, index);
        }
        return (false, 0, 0);
    }

    function _openIn(uint32 closeBlock) private view returns (uint64[] memory ids) {
        ids = new uint64[](_placed.length);
        uint256 count = 0;
        for (uint256 index = 0; index < _placed.length; ++index) {
            Order memory order = book.order(_placed[index].orderId);
            if (order.state != OrderState.Open || order.closeBlock != closeBlock) continue;
            // Inserted in ascending order.
            uint256 position = count++;
            for (; position > 0 && ids[position - 1] > _placed[index].orderId; --position) {
                ids[position] = ids[position - 1];
            }
            ids[position] = _placed[index].orderId;
        }
        assembly {
            mstore(ids, count)
        }
    }

    function _placedOf(uint64 orderId) private view returns (Placed memory) {
        for (uint256 index = 0; index < _placed.length; ++index) {
            if (_placed[index].orderId == orderId) return _placed[index];
        }
        revert("unknown order");
    }
}
