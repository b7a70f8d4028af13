"""What brokers take that cannot say so themselves: pure values and decisions."""

from gateway.uplink.profiles.known import PROFILES, profile
from gateway.uplink.profiles.profile import Profile, Verdict, check_options, clamp, effective, fitted_will, judge

__all__ = ["PROFILES", "Profile", "Verdict", "check_options", "clamp", "effective", "fitted_will", "judge", "profile"]
