// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Escrow} from "../../src/market/Escrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {FeeSchedule, OrderState} from "../../src/Types.sol";
import {IBalance, Ledger} from "./Ledger.sol";

/// @notice What must hold of the contracts at any time, told by number. Every check reads the contracts and compares them with
/// the {Ledger}; an empty answer means that all is well. Order words are taken apart here once more, by the layout that
/// the protocol fixes.
abstract contract Books is Ledger {
    struct Word {
        uint256 rate;
        uint256 settledFor;
        uint256 duration;
        uint256 start;
        uint256 closeBlock;
        uint256 supplier;
        uint256 schedule;
        uint256 flags;
        uint256 gpuEntry;
        OrderState state;
    }

    /// @dev Seconds of the payout hold.
    uint256 internal immutable _hold;

    uint256 private constant SECONDS = (1 << 29) - 1;
    uint256 private constant HIGHEST_FEES = 2_500;
    uint256 private constant HIGHEST_GATEWAY_SHARE = 5_000;

    constructor() {
        _hold = book.parameters().challengeWindow;
    }

    function _unpack(uint256 word) internal pure returns (Word memory) {
        return Word({
            rate: word & ((1 << 84) - 1),
            settledFor: (word >> 84) & SECONDS,
            duration: (word >> 113) & SECONDS,
            start: uint32(word >> 142),
            closeBlock: uint32(word >> 174),
            supplier: uint32(word >> 206),
            schedule: (word >> 238) & 511,
            flags: (word >> 247) & 3,
            gpuEntry: (word >> 249) & 3,
            state: OrderState(word >> 251)
        });
    }

    // ------------------------------------------------------ after a step (E3, E8, E9)

    /// @dev The order that a step was about: where it stands now must be one way on from where it was seen last, and where the
    /// ledger puts it.
    function _see(Entry storage entry) internal {
        (uint256 current, bytes32 termsHash,) = book.orderRecord(entry.orderId);
        Word memory now_ = _unpack(current);
        if (entry.word == 0) {
            entry.termsHash = termsHash;
            _require(
                now_.state == OrderState.Open || now_.state == OrderState.Leased, 9, "an order began as something else"
            );
        } else {
            _seeOneWay(_unpack(entry.word), now_, current == entry.word);
        }
        _require(entry.termsHash == termsHash, 9, "the terms of an order changed");
        _require(now_.state == entry.state, 9, "a state nobody asked for");
        _require(now_.duration == entry.duration, 8, "lasts, or was billed, another time than it should");
        _require(now_.settledFor == entry.paidTo, 8, "settled to another time than it should be");
        _require(now_.rate == entry.rate, 7, "a rate changed");
        _require(now_.schedule == entry.schedule, 7, "a lease does not keep the fees it was made with");
        if (now_.start != 0) _seeLease(entry, now_);
        entry.word = current;
    }

    function _seeOneWay(Word memory before, Word memory now_, bool same) private {
        OrderState state = now_.state;
        if (before.state == OrderState.Open) {
            _require(state >= OrderState.Open && state <= OrderState.Expired, 9, "an open order became something else");
            if (state == OrderState.Open && !same) {
                bool once = before.flags & 1 == 0 && now_.flags & 1 == 1 && now_.closeBlock > before.closeBlock;
                _require(once, 9, "an order was requeued twice, or backwards");
            }
        } else if (before.state == OrderState.Leased) {
            _require(state == OrderState.Leased || _isClosed(state), 9, "a lease became an order again");
        } else if (_isClosed(before.state) && before.state != OrderState.ClosedUndone) {
            bool undone = state == OrderState.ClosedUndone && now_.settledFor == 0 && before.settledFor == 0;
            _require(state == before.state || undone, 9, "a closed lease changed its reason");
            _require(undone || now_.duration == before.duration, 9, "what was billed changed after the close");
            _require(now_.flags >= before.flags, 9, "a rated lease is unrated");
        } else {
            _require(same, 9, "an ended order changed");
        }
        if (before.state == OrderState.Open) return;
        bool fixed_ = now_.rate == before.rate && now_.start == before.start && now_.supplier == before.supplier
            && now_.closeBlock == before.closeBlock && now_.schedule == before.schedule
            && now_.gpuEntry == before.gpuEntry && now_.flags & 1 == before.flags & 1;
        _require(fixed_, 9, "a lease is served by somebody else, or on other conditions");
        _require(now_.settledFor >= before.settledFor, 8, "settled time went back");
    }

    function _seeLease(Entry storage entry, Word memory now_) private {
        uint256 elapsed = block.timestamp - now_.start;
        _require(now_.settledFor <= elapsed, 8, "settled in the future");
        _require(now_.settledFor <= now_.duration, 8, "settled beyond the end");
        if (_isClosed(now_.state)) _require(now_.duration <= elapsed, 8, "billed in the future");
        uint256 paid = entry.supplierGot + entry.gatewayGot;
        _require(paid <= _streamed(now_.rate, elapsed), 3, "paid more than was streamed");
        _require(paid <= entry.lockedIn, 3, "paid more than was locked");
        if (elapsed < _hold) _require(paid == 0, 3, "paid inside the payout hold");
    }

    // ------------------------------------------------------------------ at any time

    /// @notice E1: a token's balance is what the escrow owes in it: unlocked amounts, locks less what leases paid, credits. All
    /// of it as the contracts have it.
    function solvency() external view returns (string memory) {
        for (uint256 which = 0; which < _tokens.length; ++which) {
            uint8 token = _tokens[which];
            uint256 owed = 0;
            for (uint256 index = 0; index < _accounts.length; ++index) {
                (uint256 unlocked, uint256 locked,) = escrow.balances(_accounts[index], token);
                owed += unlocked + locked;
            }
            for (uint256 index = 0; index < _payees.length; ++index) {
                owed += escrow.creditOf(_payees[index], token);
            }
            for (uint256 index = 0; index < _entries.length; ++index) {
                if (_entries[index].token != token || _entries[index].state != OrderState.Leased) continue;
                (uint256 word,,) = book.orderRecord(_entries[index].orderId);
                owed -= _netAt(_unpack(word));
            }
            uint256 balance = IBalance(_tokenAddress[token]).balanceOf(address(escrow));
            if (balance < owed) return "the escrow owes more than it holds";
            if (balance != owed + _donated[token]) return "the escrow holds what belongs to nobody";
            if (owed != _owed[token]) return "the escrow owes other than came in and did not leave";
        }
        return _broken[1];
    }

    function _netAt(Word memory lease) private view returns (uint256) {
        FeeSchedule storage schedule = _schedules[lease.schedule];
        uint256 streamed = _streamed(lease.rate, lease.settledFor);
        return streamed - streamed * (uint256(schedule.commission) + schedule.providerFee) / WHOLE;
    }

    /// @notice E2: what an order took in is what it paid, what came back and what is left, to the unit, and nothing is left of
    /// an ended one; what an account got is what it has, what left, and what its own orders cost.
    function conservation() external view returns (string memory) {
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            uint256 left = _left(entry);
            if (entry.state == OrderState.Open) {
                if (left != entry.lockedIn) return "an open order spent money";
            } else if (entry.state == OrderState.Leased) {
                if (left + entry.supplierGot + entry.gatewayGot < _costOf(entry, entry.duration)) {
                    return "a lease is not covered to its end";
                }
            } else if (entry.held) {
                if (left != _costOf(entry, entry.duration)) return "a held lease keeps other than accrued";
            } else if (left != 0) {
                return "an ended order keeps money";
            }
        }
        for (uint256 which = 0; which < _tokens.length; ++which) {
            for (uint256 index = 0; index < _accounts.length; ++index) {
                string memory problem = _conserved(_accounts[index], _tokens[which]);
                if (bytes(problem).length != 0) return problem;
            }
        }
        return _broken[2];
    }

    function _conserved(uint32 account, uint8 token) private view returns (string memory) {
        Purse storage purse = _purses[_accountKey(account, token)];
        uint256 spent = 0;
        uint256 left = 0;
        uint256 paidFromLocks = 0;
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            if (entry.account != account || entry.token != token) continue;
            spent += entry.supplierGot + entry.gatewayGot + entry.foundationGot + entry.responderGot;
            left += _left(entry);
            // The contracts take what a live lease paid out of its lock when it ends.
            if (entry.state == OrderState.Leased) paidFromLocks += entry.supplierGot + entry.gatewayGot;
        }
        if (purse.locked != left) return "an account locks other than its orders need";
        if (purse.deposited != purse.withdrawn + purse.unlocked + left + spent) return "an account lost money";
        (uint256 unlocked, uint256 locked, uint256 nonce) = escrow.balances(account, token);
        if (unlocked != purse.unlocked) return "an account has other than the ledger says";
        if (locked != left + paidFromLocks) return "an account locks other than the ledger says";
        if (nonce != purse.nonce) return "an account's nonce is not the number of its orders";
        return "";
    }

    /// @notice E3: nobody was paid more than was streamed, nor than was locked; every payee has what the ledger says.
    function noOverpayment() external view returns (string memory) {
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            if (entry.start == 0) continue;
            uint256 paid = entry.supplierGot + entry.gatewayGot;
            if (paid * RATE_PERIOD > uint256(entry.rate) * (block.timestamp - entry.start)) {
                return "paid more than was streamed";
            }
            if (paid + entry.foundationGot + entry.responderGot > entry.lockedIn) return "paid more than was locked";
        }
        string memory problem = _credited();
        return bytes(problem).length != 0 ? problem : _broken[3];
    }

    /// @dev A credit is what steps about that payee have made of it, and of no other.
    function _credited() private view returns (string memory) {
        for (uint256 which = 0; which < _tokens.length; ++which) {
            for (uint256 index = 0; index < _payees.length; ++index) {
                uint256 credit = escrow.creditOf(_payees[index], _tokens[which]);
                if (credit != _credits[_creditKey(_payees[index], _tokens[which])]) {
                    return "a payee is credited other than its leases paid";
                }
            }
        }
        return "";
    }

    /// @notice E4: what no step was about is as it was: other accounts' words, other orders' words, other payees' credits.
    function separation() external view returns (string memory) {
        for (uint256 which = 0; which < _tokens.length; ++which) {
            uint8 token = _tokens[which];
            for (uint256 index = 0; index < _accounts.length; ++index) {
                (uint256 unlocked, uint256 locked, uint256 nonce) = escrow.balances(_accounts[index], token);
                uint256 seen = _seenPurses[_accountKey(_accounts[index], token)];
                if (unlocked | (locked << 112) | (nonce << 224) != seen) return "an account moved without a step";
            }
        }
        string memory problem = _credited();
        if (bytes(problem).length != 0) return problem;
        return bytes(_broken[4]).length != 0 ? _broken[4] : unmoved();
    }

    /// @notice Half of E4 and of E9: every order's word is as it was seen after the last step about it.
    function unmoved() public view returns (string memory) {
        for (uint256 index = 0; index < _entries.length; ++index) {
            (uint256 word,,) = book.orderRecord(_entries[index].orderId);
            if (word != _entries[index].word) return "an order moved without a step";
        }
        return "";
    }

    /// @dev Account words as they stood after the last step about them.
    mapping(uint256 accountAndToken => uint256 word) internal _seenPurses;

    function _seePurse(uint32 account, uint8 token) internal {
        (uint256 unlocked, uint256 locked, uint256 nonce) = escrow.balances(account, token);
        _seenPurses[_accountKey(account, token)] = unlocked | (locked << 112) | (nonce << 224);
    }

    /// @notice E5: whatever the path of settlements, supplier and gateway have what one settlement at the same time pays.
    function pathIndependence() external view returns (string memory) {
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            if (entry.start == 0) continue;
            (uint256 word,,) = book.orderRecord(entry.orderId);
            if (entry.supplierGot + entry.gatewayGot != _netAt(_unpack(word))) {
                return "many settlements paid other than one";
            }
        }
        return _broken[5];
    }

    /// @notice E6: exact fractions decide. The user never pays more than rate times time and its fee, and less than three units
    /// below; foundation and gateway get no more than their exact shares; what is locked is at least the exact price.
    function rounding() external view returns (string memory) {
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            FeeSchedule storage schedule = _schedules[entry.schedule];
            if (entry.state == OrderState.Open) {
                uint256 exactLock = uint256(entry.maximumRate) * entry.duration * (WHOLE + schedule.userFee);
                if (entry.lockedIn * RATE_PERIOD * WHOLE < exactLock) return "an order locks less than its price";
            }
            if (!_isClosed(entry.state) || entry.held || entry.state == OrderState.ClosedUndone) continue;
            uint256 exact = uint256(entry.rate) * entry.duration;
            uint256 spent = entry.supplierGot + entry.gatewayGot + entry.foundationGot;
            if (spent * RATE_PERIOD * WHOLE > exact * (WHOLE + schedule.userFee)) {
                return "the user paid a dust too much";
            }
            if ((spent + 3) * RATE_PERIOD * WHOLE <= exact * (WHOLE + schedule.userFee)) {
                return "the user paid less than it used";
            }
            uint256 feePoints = uint256(schedule.commission) + schedule.providerFee + schedule.userFee;
            if (entry.foundationGot * RATE_PERIOD * WHOLE > exact * feePoints) {
                return "the foundation got a dust too much";
            }
            uint256 net = entry.supplierGot + entry.gatewayGot;
            if (entry.gatewayGot * WHOLE > net * schedule.gatewayShare) return "the gateway got a dust too much";
        }
        return _broken[6];
    }

    /// @notice E7: no schedule above the immutable caps, none ever changes, and what leases paid keeps to them.
    function feeCaps() external view returns (string memory) {
        if (2 * uint256(escrow.feeScheduleCount()) + 2 != _schedules.length) return "schedules that nobody added";
        for (uint256 id = 2; id < _schedules.length; ++id) {
            FeeSchedule memory stored = escrow.feeSchedule(uint16(id));
            if (keccak256(abi.encode(stored)) != keccak256(abi.encode(_schedules[id]))) return "a schedule changed";
            if (uint256(stored.commission) + stored.userFee + stored.providerFee > HIGHEST_FEES) {
                return "fees above cap";
            }
            if (stored.gatewayShare > HIGHEST_GATEWAY_SHARE) return "a gateway's share above its cap";
        }
        for (uint256 index = 0; index < _entries.length; ++index) {
            Entry storage entry = _entries[index];
            if (entry.foundationGot * WHOLE > _streamed(entry.rate, entry.paidTo) * HIGHEST_FEES) {
                return "a lease paid more fees than the cap";
            }
            if (entry.gatewayGot * WHOLE > (entry.supplierGot + entry.gatewayGot) * HIGHEST_GATEWAY_SHARE) {
                return "a gateway got more than the cap";
            }
        }
        return _broken[7];
    }

    /// @notice E8: what is billed is in the past and within what was bought; that it only grows is checked in every step.
    function billedTime() external view returns (string memory) {
        for (uint256 index = 0; index < _entries.length; ++index) {
            if (_entries[index].start == 0) continue;
            (uint256 current,,) = book.orderRecord(_entries[index].orderId);
            Word memory word = _unpack(current);
            if (word.start + word.settledFor > block.timestamp) return "settled in the future";
            if (word.settledFor > word.duration) return "settled beyond the end";
            if (_isClosed(word.state) && word.start + word.duration > block.timestamp) return "billed in the future";
        }
        return _broken[8];
    }

    /// @notice E9 to E12, which steps check; E9 also that no order moves without one.
    function oneWay() external view returns (string memory) {
        return bytes(_broken[9]).length != 0 ? _broken[9] : unmoved();
    }

    function broken(uint256 number) external view returns (string memory) {
        return _broken[number];
    }
}
