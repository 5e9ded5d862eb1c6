"""Template tags and filters for what every page shows; see ``beidou.base.display``.

``{% load beidou %}``, then ``{% state_badge cluster "health" %}``, ``{% badge "new" "busy" %}``,
``{{ moment|ago }}``, ``{{ moment|exact }}``, ``{{ moment|lasting }}``,
``{{ n|byte_size }}``, ``{{ n|cores }}``, ``{% usage_bar used all "cpu" %}``,
``{% yes_no value "Ready" "Not ready" %}``, ``{{ uid|copyable }}``, ``{{ entry|deed }}``,
``{{ entry.actor|actor }}``.
"""

from django import template

from beidou.base import attempts, display, verbs

register = template.Library()

register.simple_tag(display.badge, name="badge")
register.simple_tag(display.insecure_badge, name="insecure_badge")
register.simple_tag(display.state_badge, name="state_badge")
register.simple_tag(display.usage_bar, name="usage_bar")
register.simple_tag(display.yes_no, name="yes_no")
register.filter("ago", display.ago)
register.filter("exact", display.exact)
register.filter("lasting", display.lasting)
register.filter("byte_size", display.byte_size)
register.filter("cores", display.cores)
register.filter("copyable", display.copyable)
register.filter("deed", attempts.told)
register.filter("actor", verbs.actor)
