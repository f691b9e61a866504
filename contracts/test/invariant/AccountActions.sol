// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";

import {IEscrow} from "../../src/market/IEscrow.sol";
import {SpendingRight} from "../../src/Types.sol";
import {Erc2612} from "../market/Erc2612.sol";
import {Permit2} from "../market/Permit2.sol";
import {IToken, World} from "./World.sol";

/// @notice What owners and anyone do with accounts: deposit, withdraw, hand over, grant.
abstract contract AccountActions is World {
    uint256 private constant MOST_ACCOUNTS = 5;
    uint256 private constant NOBODYS_KEY = 1;

    /// @dev Permit2's nonces have no order; each is taken once.
    uint256 private _permits;

    /// @notice Every run begins in the middle, with money in the accounts.
    function fundAll() external onlyAdmin {
        for (uint256 index = 0; index < _accounts.length; ++index) {
            _fund(_accounts[index]);
        }
    }

    function _fund(uint32 account) private {
        for (uint256 which = 0; which < _tokens.length; ++which) {
            _deposit(account, _tokens[which], _tokens[which] == hostileId ? 1_500e6 : 1_500e18);
        }
    }

    function deposit(uint256 seed, uint256 amount) public {
        ++steps;
        (uint32 account, uint8 token) = (_pickAccount(seed), _pickToken(seed));
        _deposit(account, token, bound(amount, 1, token == hostileId ? 2_000e6 : 2_000e18));
    }

    function _deposit(uint32 account, uint8 token, uint256 amount) internal {
        IToken moved = IToken(_tokenAddress[token]);
        moved.mint(address(this), amount);
        moved.approve(address(escrow), amount);
        bool expected = _moves(token, address(this), address(escrow)) && !_depositing
            && moved.balanceOf(address(escrow)) + amount <= _caps[token];
        // Whoever is called in the middle may take money out, and then too little arrives.
        bool uncertain = _isArmed(token);
        _depositing = true;
        try escrow.deposit(account, token, amount) {
            _require(expected || uncertain, 1, "a deposit that the cap or the token forbids");
            _book(account, token, amount);
            _reach(Reached.Deposit);
        } catch {
            _require(!expected || uncertain, 11, "a deposit was refused");
        }
        _depositing = false;
        _seePurse(account, token);
    }

    function _book(uint32 account, uint8 token, uint256 amount) private {
        Purse storage purse = _purses[_accountKey(account, token)];
        purse.deposited += amount;
        purse.unlocked += amount;
        _owed[token] += amount;
    }

    /// @dev Money that its payer signs away, by ERC-2612 or through Permit2: another's signature moves nothing, and none twice.
    function depositSigned(uint256 seed, uint256 amount) public {
        ++steps;
        (uint32 account, uint8 token) = (_pickAccount(seed), _pickToken(seed));
        address payer = _users[_draw(seed, 16, _users.length)];
        amount = bound(amount, 1, token == hostileId ? 2_000e6 : 2_000e18);
        // Only the fair token knows permits of its own.
        bool own = token != hostileId && _draw(seed, 18, 2) == 0;
        uint256 key = _draw(seed, 17, 8) == 0 ? NOBODYS_KEY : _keys[payer];
        bytes memory call = own
            ? _permitted(account, token, amount, payer, key)
            : _permittedByPermit2(account, token, amount, payer, key);
        IToken moved = IToken(_tokenAddress[token]);
        moved.mint(payer, amount);
        bool signed = key == _keys[payer];
        bool expected = signed && !_depositing && _moves(token, payer, address(escrow))
            && moved.balanceOf(address(escrow)) + amount <= _caps[token];
        bool uncertain = signed && _isArmed(token);
        _depositing = true;
        vm.prank(payer);
        (bool taken,) = address(escrow).call(call);
        _depositing = false;
        if (taken) {
            _require(expected || uncertain, 4, "a deposit that the cap, the token or the signature forbids");
            _book(account, token, amount);
            _reach(own ? Reached.DepositByPermit : Reached.DepositByPermit2);
            vm.prank(payer);
            (taken,) = address(escrow).call(call);
            _require(!taken, 4, "a signature moved money twice");
        } else {
            _require(!expected || uncertain, 11, "a signed deposit was refused");
        }
        _seePurse(account, token);
    }

    function _permitted(uint32 account, uint8 token, uint256 amount, address payer, uint256 key)
        private
        view
        returns (bytes memory)
    {
        uint256 nonce = IERC20Permit(_tokenAddress[token]).nonces(payer);
        Erc2612.Permit memory permit = Erc2612.Permit(payer, address(escrow), amount, nonce, block.timestamp);
        (uint8 v, bytes32 r, bytes32 s) = Erc2612.sign(vm, key, _tokenAddress[token], permit);
        return abi.encodeCall(IEscrow.depositWithPermit, (account, token, amount, permit.deadline, v, r, s));
    }

    function _permittedByPermit2(uint32 account, uint8 token, uint256 amount, address payer, uint256 key)
        private
        returns (bytes memory)
    {
        vm.prank(payer);
        IToken(_tokenAddress[token]).approve(Permit2.DEPLOYED, type(uint256).max);
        Permit2.Permit memory permit =
            Permit2.Permit(_tokenAddress[token], amount, address(escrow), ++_permits, block.timestamp);
        bytes memory signature = Permit2.sign(vm, key, permit);
        return
            abi.encodeCall(
                IEscrow.depositWithPermit2, (account, token, amount, permit.nonce, permit.deadline, signature)
            );
    }

    /// @dev Tokens that somebody sends to the escrow are nobody's.
    function donate(uint256 seed) public {
        ++steps;
        uint8 token = _pickToken(seed);
        if (!_moves(token, address(this), address(escrow)) || _isArmed(token) || _depositing) return;
        uint256 amount = 1 + _draw(seed, 5, 1_000);
        IToken(_tokenAddress[token]).mint(address(this), amount);
        IToken(_tokenAddress[token]).transfer(address(escrow), amount);
        _donated[token] += amount;
        _bear();
    }

    function withdraw(uint256 seed, uint256 amount) public {
        ++steps;
        (uint32 account, uint8 token) = (_pickAccount(seed), _pickToken(seed));
        uint256 unlocked = _purses[_accountKey(account, token)].unlocked;
        address owner = _ownerOf[account];
        address caller = owner;
        uint256 who = _draw(seed, 6, 12);
        if (who == 0) caller = _stranger;
        if (who == 1) caller = _pickSpender(seed);
        // Now and then one unit more than there is.
        amount = _draw(seed, 7, 8) == 0 ? unlocked + 1 : bound(amount, 0, unlocked);
        _withdraw(account, token, caller, amount, _recipient(caller, seed));
    }

    /// @dev To itself half of the time; else to somebody else, now and then to where nothing may go.
    function _recipient(address caller, uint256 seed) internal view returns (address) {
        uint256 who = _draw(seed, 19, 12);
        if (who < 6) return caller;
        if (who < 10) return _users[_draw(seed, 160, _users.length)];
        return who == 10 ? address(escrow) : address(0);
    }

    function _mayReceive(address to) internal view returns (bool) {
        return to != address(0) && to != address(escrow);
    }

    function _withdraw(uint32 account, uint8 token, address caller, uint256 amount, address to) internal {
        uint256 unlocked = _purses[_accountKey(account, token)].unlocked;
        bool allowed = amount != 0 && caller == _ownerOf[account] && amount <= unlocked && _mayReceive(to);
        bool moves = _moves(token, address(escrow), to);
        uint256 balance = IToken(_tokenAddress[token]).balanceOf(to);
        bool armed = _isArmed(token);
        if (!allowed) {
            vm.prank(caller);
            try escrow.withdraw(account, token, amount, to) {
                _break(4, "locked money, or another's, was withdrawn, or to nobody");
            } catch {}
        } else {
            try this.withdrawing(account, token, caller, amount, to) {
                _require(moves, 11, "a blocked withdrawal went through");
                uint256 received = IToken(_tokenAddress[token]).balanceOf(to) - balance;
                _require(armed || received == amount, 2, "a withdrawal moved another amount");
                _reach(to == caller ? Reached.Withdrawal : Reached.WithdrawnElsewhere);
            } catch {
                _require(!moves || _depositing, 11, "unlocked money could not be withdrawn");
                if (!moves) _reach(Reached.TransferBlocked);
            }
        }
        _seePurse(account, token);
    }

    /// @dev The ledger first, as in the escrow: whoever the token calls in between finds the withdrawal done.
    function withdrawing(uint32 account, uint8 token, address owner, uint256 amount, address to) external onlySelf {
        Purse storage purse = _purses[_accountKey(account, token)];
        purse.withdrawn += amount;
        purse.unlocked -= amount;
        _owed[token] -= amount;
        vm.prank(owner);
        escrow.withdraw(account, token, amount, to);
    }

    /// @dev Sells the account, by itself, through an approval or an operator; spending rights end.
    function handOver(uint256 seed) public {
        ++steps;
        uint32 account = _pickAccount(seed);
        address owner = _ownerOf[account];
        address buyer = _users[_draw(seed, 8, _users.length)];
        address spender = _pickSpender(seed);
        vm.prank(spender);
        try escrow.transferFrom(owner, buyer, account) {
            _break(4, "an account was sold by who may only spend");
        } catch {}
        uint256 way = _draw(seed, 9, 4);
        if (way == 0) {
            vm.prank(owner);
            escrow.transferFrom(owner, buyer, account);
        } else {
            _sellThrough(account, owner, buyer, spender, way == 1);
        }
        _ownerOf[account] = buyer;
        ++_epochs[account];
        _require(escrow.epochOf(account) == _epochs[account], 9, "an epoch did not end with the transfer");
        for (uint256 index = 0; index < _spenders.length; ++index) {
            _seeRight(account, _pickToken(seed), _spenders[index]);
        }
        _reach(Reached.HandOver);
    }

    /// @dev By who is approved for the account, once, or for all that its owner has, until that is taken back.
    function _sellThrough(uint32 account, address owner, address buyer, address seller, bool once) private {
        vm.prank(owner);
        if (once) escrow.approve(seller, account);
        else escrow.setApprovalForAll(seller, true);
        vm.prank(seller);
        escrow.safeTransferFrom(owner, buyer, account);
        if (!once) {
            vm.prank(owner);
            escrow.setApprovalForAll(seller, false);
        }
        vm.prank(seller);
        try escrow.safeTransferFrom(buyer, owner, account) {
            _break(4, "an approval outlived the sale");
        } catch {}
        _reach(once ? Reached.HandOverByApproval : Reached.HandOverByOperator);
    }

    function openAccount(uint256 seed) public {
        ++steps;
        if (_accounts.length >= MOST_ACCOUNTS) return;
        _openAccount(_users[_draw(seed, 10, _users.length)]);
        _fund(_accounts[_accounts.length - 1]);
        _bear();
    }

    function grant(uint256 seed, uint256 limit) public {
        ++steps;
        (uint32 account, uint8 token) = (_pickAccount(seed), _pickToken(seed));
        address spender = _pickSpender(seed);
        SpendingRight memory right = SpendingRight({
            limit: uint112(bound(limit, 0, token == hostileId ? 1_000e6 : 1_000e18)),
            expiry: uint40(block.timestamp + _draw(seed, 11, 30 days)),
            mayClose: _draw(seed, 12, 3) != 0
        });
        if (_draw(seed, 13, 10) == 0) {
            vm.prank(_stranger);
            try escrow.setSpendingRight(account, spender, token, right) {
                _break(4, "a stranger granted a right");
            } catch {}
            return;
        }
        _grant(account, spender, token, right);
    }

    function _grant(uint32 account, address spender, uint8 token, SpendingRight memory right) internal {
        vm.prank(_ownerOf[account]);
        escrow.setSpendingRight(account, spender, token, right);
        bytes32 key = _rightKey(account, spender, token);
        _rights[key] = right;
        ++_settings[key];
        _seeRight(account, token, spender);
        _reach(Reached.RightGranted);
    }

    /// @dev A spender, mostly one with a right that is worth something.
    function _someSpender(uint32 account, uint8 token, uint256 seed) internal returns (address spender) {
        spender = _pickSpender(seed);
        if (_draw(seed, 14, 3) == 0) return spender;
        SpendingRight memory right = SpendingRight({
            limit: uint112(_purses[_accountKey(account, token)].unlocked),
            expiry: uint40(block.timestamp + 1 + _draw(seed, 15, 1 hours)),
            mayClose: true
        });
        _grant(account, spender, token, right);
    }

    /// @dev Brackets are no money: that they change nothing else is what the books show.
    function updateBracket(uint256 seed) public {
        ++steps;
        try escrow.updateBracket(_pickAccount(seed), _pickToken(seed)) {
            _bear();
        } catch {}
    }
}
