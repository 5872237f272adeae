"""A coarse device class from the User-Agent: enough to see layout effects, too little to recognise anybody."""


def device_class(user_agent: str) -> str:
    """`phone`, `tablet`, `desktop`, or empty when the browser does not say."""
    agent = user_agent.lower()
    if not agent:
        return ""
    if "ipad" in agent or "tablet" in agent or ("android" in agent and "mobile" not in agent):
        return "tablet"
    if "mobi" in agent or "iphone" in agent or "android" in agent:
        return "phone"
    return "desktop"
