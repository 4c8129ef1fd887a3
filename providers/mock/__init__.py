"""The mock provider: a real HTTP server with a ledger of charges, faults on demand and real videos, and its adapter."""
