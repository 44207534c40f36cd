"""Real workflows, small enough to read at a glance. Each appends its effects to a log beside the database.

durable run onboarding emp_demo --crash-at provision_laptop:executed
durable run onboarding emp_demo
"""
