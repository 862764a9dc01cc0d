"""A few notes to be asked about; in your program they come from your documents."""

NOTES = [
    "To get a new password, open the sign-in page and choose 'forgot password'.",
    "Invoices are sent on the first working day of each month.",
    "The office is closed between Christmas and New Year.",
    "Refunds arrive within five days on the card that was used to pay.",
    "Only administrators can invite people to a workspace.",
]

QUESTION = "I can't log in any more, what now?"
