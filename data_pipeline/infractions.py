"""Infractions as Bench2Drive's result files name them, and what they cost.

The embedded world's referee and the scorer read the same table.
"""

KINDS = (
    "collisions_layout", "collisions_pedestrian", "collisions_vehicle",
    "red_light", "stop_infraction", "outside_route_lanes",
    "min_speed_infractions", "yield_emergency_vehicle_infractions",
    "scenario_timeouts", "route_dev", "vehicle_blocked", "route_timeout")
# What one entry leaves of the score; off the road it is the share of the way.
FACTORS = {
    "collisions_pedestrian": 0.5, "collisions_vehicle": 0.6,
    "collisions_layout": 0.65, "red_light": 0.7, "stop_infraction": 0.8,
    "scenario_timeouts": 0.7, "yield_emergency_vehicle_infractions": 0.7}
