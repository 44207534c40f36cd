"""Real workflows, small enough to read at a glance. Each appends what it does to an effects log beside the database.

durable run onboarding emp_demo --crash-at provision_laptop:executed
durable run onboarding emp_demo
"""
