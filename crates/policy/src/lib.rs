//! The issuance-policy language: parse, evaluate, explain.
