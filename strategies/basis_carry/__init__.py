"""Basis carry: long spot, short perpetual, while the perpetual is rich or pays its funding."""
