"""Methods that change the backward pass, through Captum."""
