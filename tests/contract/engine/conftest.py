"""Lets the suite's assertions tell what they saw: it is imported, not collected."""

import pytest

pytest.register_assert_rewrite("tests.contract.engine.suite")
