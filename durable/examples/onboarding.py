"""A new colleague: a record, then a laptop and accounts in parallel, then a welcome.

Crash it anywhere and run it again: completed steps are skipped. To see it:
`durable run onboarding emp_demo --crash-at provision_laptop:executed`, then `durable run onboarding emp_demo`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from durable import Context
from durable.examples.effects import have_effect


@dataclass(frozen=True)
class Employee:
    """A colleague, as far as onboarding has got."""

    id: str
    name: str
    laptop: str | None = None
    email: str | None = None


def create_record(employee_id: str, name: str, delay_seconds: float = 1.0) -> Employee:
    """Enter the employee into the personnel system."""
    have_effect(f"created a record for {name}", delay_seconds)
    return Employee(employee_id, name)


def provision_laptop(employee: Employee, delay_seconds: float = 1.0) -> str:
    """Order a laptop. Not idempotent: killed between effect and save, it orders another one."""
    have_effect(f"ordered a laptop for {employee.name}", delay_seconds)
    return "MacBook Pro"


def setup_access(employee: Employee, delay_seconds: float = 1.0) -> str:
    """Open the accounts, and return the new e-mail address."""
    have_effect(f"opened accounts for {employee.name}", delay_seconds)
    return f"{employee.id}@company.com"


def send_welcome_email(employee: Employee, delay_seconds: float = 1.0) -> None:
    """Say hello."""
    have_effect(f"sent a welcome to {employee.email}", delay_seconds)


def onboarding(ctx: Context, name: str = "John Doe", delay_seconds: float = 1.0) -> Employee:
    """Onboard a colleague. Each step takes `delay_seconds`, the accounts half of it, at the same time as the laptop."""
    employee = ctx.step(create_record, ctx.workflow_id, name, delay_seconds)
    laptop = ctx.submit(provision_laptop, employee, delay_seconds)
    email = ctx.submit(setup_access, employee, delay_seconds / 2)
    employee = replace(employee, laptop=laptop.result(), email=email.result())
    ctx.step(send_welcome_email, employee, delay_seconds)
    return employee
