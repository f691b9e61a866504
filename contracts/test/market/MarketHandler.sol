// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Escrow} from "../../src/market/Escrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {OrderState} from "../../src/Types.sol";
import {AuthorityActions} from "../invariant/AuthorityActions.sol";
import {HostileToken} from "../invariant/HostileToken.sol";
import {MovingFeed} from "../invariant/MovingFeed.sol";
import {IToken, World} from "../invariant/World.sol";

/// @notice Everybody who uses the market, at random, with books of its own ({Ledger}) next to those of the contracts. Every step
/// knows beforehand whether it may succeed, and says so when the contracts see it otherwise. Two tokens are listed before a
/// campaign begins, suppliers registered and collaborators named; what lists, registers and names them is not among the steps.
contract MarketHandler is AuthorityActions {
    constructor(
        Escrow escrow_,
        IOrderBook book_,
        IPaymentTokens paymentTokens_,
        HostileToken hostile_,
        uint8 hostileId_,
        MovingFeed feed_,
        Roles memory roles
    ) World(escrow_, book_, paymentTokens_, hostile_, hostileId_, feed_, roles) {}

    /// @notice The steps of a campaign. The functions without a place here take part in others' steps, or set the world up.
    function selectors() external pure returns (bytes4[] memory list) {
        list = new bytes4[](43);
        (list[0], list[1], list[2]) = (this.deposit.selector, this.withdraw.selector, this.handOver.selector);
        (list[3], list[4], list[5]) = (this.grant.selector, this.openAccount.selector, this.updateBracket.selector);
        (list[6], list[7], list[8]) = (this.createOrder.selector, this.lease.selector, this.leaseAgain.selector);
        (list[9], list[10], list[11]) = (this.cancel.selector, this.expire.selector, this.bid.selector);
        (list[12], list[13]) = (this.answer.selector, this.matchOnChain.selector);
        (list[14], list[15]) = (this.closeByUser.selector, this.closeBySupplier.selector);
        (list[16], list[17], list[18]) = (this.closeAtEnd.selector, this.extend.selector, this.announce.selector);
        (list[19], list[20], list[21]) = (this.propose.selector, this.acceptUpdate.selector, this.update.selector);
        (list[22], list[23]) = (this.rejectUpdate.selector, this.rateSupplier.selector);
        (list[24], list[25]) = (this.settle.selector, this.settleAndWithdraw.selector);
        (list[26], list[27], list[28]) = (this.withdrawCredit.selector, this.undo.selector, this.slash.selector);
        (list[29], list[30]) = (this.governFees.selector, this.governToken.selector);
        (list[31], list[32]) = (this.governMarket.selector, this.movePrice.selector);
        (list[33], list[34]) = (this.setCapacity.selector, this.turnHostile.selector);
        (list[35], list[36]) = (this.pass.selector, this.passToMoment.selector);
        (list[37], list[38]) = (this.comparePaths.selector, this.donate.selector);
        (list[39], list[40]) = (this.settleEverySecond.selector, this.depositSigned.selector);
        (list[41], list[42]) = (this.skipNonce.selector, this.keepPrice.selector);
    }

    /// @dev A second place among the steps: most of what there is to break is a lease's.
    function leaseAgain(uint256 seed, uint256 rate, uint256 shape) public {
        lease(seed, rate, shape);
    }

    // -------------------------------------------------------------------- the end

    /// @notice The end of every run, E11 to the last unit: the market is paused, every token delisted, the hostile one lets nothing
    /// move and armed no longer; still all orders end and all leases close. Once the token moves again everybody takes
    /// what is theirs, and nothing is left but what was given away.
    function everybodyLeaves() external {
        _stopEverything();
        _endEverything();
        _healToken();
        for (uint256 which = 0; which < _tokens.length; ++which) {
            _takeEverything(_tokens[which]);
        }
    }

    function _stopEverything() private {
        hostile.setPaused(true);
        hostile.disarm();
        vm.startPrank(_roles.admin);
        if (!_paused) book.pause();
        _paused = true;
        for (uint256 which = 0; which < _tokens.length; ++which) {
            if (_enabled[_tokens[which]]) paymentTokens.setStatus(_tokens[which], IPaymentTokens.Status.Delisted);
            _enabled[_tokens[which]] = false;
        }
        vm.stopPrank();
    }

    function _endEverything() private {
        uint256 last = block.timestamp;
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            if (entry.state == OrderState.Leased && _overAt(entry) > last) last = _overAt(entry);
        }
        vm.warp(last + _hold);
        vm.roll(block.number + 10_000);
        for (uint256 index = 0; index < _entries.length; ++index) {
            if (_entries[index].state == OrderState.Open) _expireOne(_entries[index]);
            if (_entries[index].state == OrderState.Leased) _closeOver(_entries[index]);
            if (_entries[index].start != 0) _settle(index, index);
        }
    }

    function _healToken() private {
        hostile.setPaused(false);
        hostile.setBlocked(address(escrow), false);
        for (uint256 index = 0; index < _payees.length; ++index) {
            hostile.setBlocked(_payees[index], false);
        }
        for (uint256 index = 0; index < _users.length; ++index) {
            hostile.setBlocked(_users[index], false);
        }
    }

    function _takeEverything(uint8 token) private {
        for (uint256 index = 0; index < _accounts.length; ++index) {
            (uint256 unlocked, uint256 locked,) = escrow.balances(_accounts[index], token);
            _require(locked == 0, 2, "money stays locked when all leases are over");
            address owner = _ownerOf[_accounts[index]];
            if (unlocked != 0) _withdraw(_accounts[index], token, owner, unlocked, owner);
        }
        for (uint256 index = 0; index < _payees.length; ++index) {
            address payee = _payees[index];
            if (escrow.creditOf(payee, token) != 0) _withdrawCredit(payee, token, payee);
        }
        uint256 left = IToken(_tokenAddress[token]).balanceOf(address(escrow));
        _require(left == _donated[token], 1, "not everybody could leave with what is theirs");
    }
}
