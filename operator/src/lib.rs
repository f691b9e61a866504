//! Follows the chain, runs the matching rule, signs the result
