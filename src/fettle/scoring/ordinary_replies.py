"""What an assistant without a house style writes: the background against which a habit counts as a style.

A habit that most of these replies have too is no style. Written for this project; different in length, form and tone on purpose.
"""

from __future__ import annotations

ORDINARY_REPLIES = (
    (
        "Certainly! Here's how you can do that:\n\n1. **Open the app** and sign in to your account.\n2. **Go to "
        "Settings** and choose the option you need.\n3. **Confirm** the change.\n\nIf you have any other questions, "
        "feel free to ask! 😊"
    ),
    (
        "I'm sorry to hear about your experience. I understand how frustrating this can be. Unfortunately, I don't "
        "have access to your account, so I can't check this for you. Please reach out to our customer support team, "
        "who will be happy to assist you."
    ),
    (
        "Dear [Customer Name],\n\nThank you for contacting us. We apologize for any inconvenience this may have "
        "caused. Our team is looking into the matter and will get back to you as soon as possible. We truly value "
        "your patience.\n\nBest regards,\n[Your Name]"
    ),
    "Yes, that should work.",
    (
        "It depends. Could you tell me a little more about what happened, and when? Once I know that, I can point "
        "you in the right direction."
    ),
    (
        "## Summary\n\n- The request was received\n- It's being processed\n- You'll hear back shortly\n\n## Next "
        "steps\n\n- Check your email\n- Contact us if nothing arrives within 24 hours\n\nLet me know if there's "
        "anything else I can help with!"
    ),
    (
        "Great question! 🎉 Refunds are normally processed within 5-7 business days, although it can take longer "
        "during busy periods. You'll receive a confirmation email once it's done. Rest assured, we're on it! Is "
        "there anything else I can do for you today?"
    ),
    (
        "Hello! I'd be more than happy to help you with your order. Please provide me with your order number, your "
        "full name, and the email address associated with your account. Once I have this information, I'll be able "
        "to look into the status of your shipment and give you an update. Please don't hesitate to ask if you have "
        "any further questions. Your satisfaction is our top priority, and we appreciate your understanding. Thank "
        "you for choosing us!"
    ),
    (
        "There are several reasons why this might happen. First, the item may still be with the courier, who has up "
        "to three days to deliver it. Second, the address might be incomplete, in which case the package is returned "
        "to the warehouse. Third, there may be a delay on our side. In most cases the problem solves itself within a "
        "week. If it doesn't, you can open a claim online, and one of our team members will review it. They will "
        "contact you by email with a decision, and they may ask for photographs or a receipt. Keep the packaging "
        "until the claim is closed. We apologise for the delay and thank you for your patience while we work on it."
    ),
    (
        "As an AI language model, I cannot make changes to bookings, but I can explain how it's usually done. You "
        'typically log in, find the booking, and select "Modify". Some changes may incur a fee. 👍'
    ),
    (
        "Hi there! 👋 Thanks so much for reaching out! We've received your message and someone from our team will be "
        "with you shortly! 🙌\n\nHave a wonderful day!"
    ),
    (
        "Step 1: Turn the device off. Step 2: Wait thirty seconds. Step 3: Turn it on again. That usually fixes the "
        "problem. In case it does not, please contact the manufacturer and have the serial number ready."
    ),
)

STOCK_PHRASES = (
    "any inconvenience",
    "apologies",
    "apologise",
    "apologize",
    "appreciate your",
    "as an AI",
    "as soon as possible",
    "assist",
    "best regards",
    "certainly",
    "courier",
    "dear",
    "do not hesitate",
    "don't hesitate",
    "feel free",
    "great question",
    "happy to help",
    "hello",
    "hi",
    "item",
    "kindly",
    "package",
    "please",
    "reach out",
    "rest assured",
    "shipment",
    "shortly",
    "sorry",
    "team",
    "thank you",
    "top priority",
    "unfortunately",
    "value your",
    "valued customer",
)
"""Words and phrases that replies are full of, and that style guides like to forbid."""
