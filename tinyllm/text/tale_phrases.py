"""The turns of phrase that the plots of `tale_rules.py` are told with, one alternative a line.

Phrases that begin a sentence begin with a capital; phrases that continue one do not. Speech carries no
closing punctuation: the plot sets it.
"""

# Time, weather, and what else is going on.
SETTING = {
    "open": """
3* One <sky> <hour>
2* On a <sky> <hour> in <month>
2* Once, when <season>
Not long ago, on a <sky> <hour>
Early one <sky> <hour>
Late one <sky> <hour>
""",
    "sky": "bright\nbreezy\nchilly\nclear\ndamp\ndrowsy\nfoggy\nfresh\nfrosty\ngolden\ngrey\nhazy\nmild\n"
           "misty\nquiet\nrosy\nsilvery\nsleepy\nwarm\nwindy",
    "hour": "3* morning\nafternoon\nevening\nday",
    "month": "January\nFebruary\nMarch\nApril\nMay\nJune\nJuly\nAugust\nSeptember\nOctober\nNovember\nDecember",
    "season": """
the apples were ripe
the blackbirds were nesting
the fair had come to town
the first snow lay on the hills
the hay was being cut
the leaves were turning red
the lilac was in flower
the nights were growing long
the river was low
the swallows had come back
""",
    "aside": """
2* A <bird> was singing in the <tree> tree.
2* The air smelled of <smell>.
Far away <far>.
Over the <land> drifted a <cloud> cloud.
A <bird> looked on from the <tree> tree.
From the <land> came the smell of <smell>.
In the <land> a <bird> called to a <other_bird>.
The wind stirred the <land> and shook the <tree> tree.
""",
    "bird": "blackbird\nchaffinch\ngoldfinch\nlinnet\nmagpie\nrobin\nskylark\nsparrow\nthrush\nwarbler\nwood pigeon",
    "other_bird": "bullfinch\ndunnock\nfinch\njay\nnuthatch\nstarling\nswift\nbunting",
    "tree": "alder\nbeech\nbirch\ncherry\nchestnut\nelder\nhawthorn\nhazel\nlime\npear\nrowan\nwalnut\nwillow",
    "smell": "apples\ncut hay\nhoney\nmint\nmoss\nnew bread\nrain\nthyme\nturned earth\nwet leaves\nwood smoke",
    "far": """
a bell was ringing
a cock was crowing
a cuckoo was calling
a dog was barking
somebody was chopping wood
somebody was playing a fiddle
the mill wheel was turning
thunder was grumbling
""",
    "cloud": "dark\nlittle\nlonely\npink\nround\nslow\nwhite",
    "land": "barley\nbrook\ncornfield\ngardens\nhills\nmeadows\nreeds\nrooftops\nwoods",
    "night": """
One <dark> night in <month>
On a <dark> night
Late on a <dark> night, when <asleep>
""",
    "dark": "black\nblustery\ncold\ndeep blue\nmoonless\nmoonlit\nstarry\nstill\nwild",
    "asleep": "even the cats were asleep\nevery lamp was out\nthe clock had struck one\nthe clock had struck twelve\n"
              "the fires had burned low",
    "night_aside": """
The moon looked in at the <opening>.
The clock <ticked> on the wall.
The wind <wandered> round the <outside>.
Somewhere a <nightbird> called.
""",
    "opening": "door\nkeyhole\nskylight\nwindow",
    "ticked": "clicked\nmuttered\nticked\nwhirred",
    "wandered": "crept\nprowled\nsighed\nwandered",
    "outside": "barn\nchimneys\ngarden\nwalls",
    "nightbird": "corncrake\ncurlew\nnightjar\nplover",
}

# Who speaks, and how.
SPEECH = {
    f"{who}_said": f"3* said {{{who}}}\n2* {{{who}.voice}} {{{who}}}\n{{{who}}} {{{who}.voice}}\nsaid the {{{who}.kind}}"
    for who in ("hero", "friend", "elder")
} | {
    f"{who}_asked": f"3* asked {{{who}}}\n{{{who}.voice}} {{{who}}}\nasked the {{{who}.kind}}\n{{{who}}} wondered"
    for who in ("hero", "friend")
} | {
    "friend_first_said": "said {friend}\ncame the voice of {friend}",
    "friend_first_asked": "asked {friend}\nwondered {friend}",
} | {
    f"{who}_cried": f"cried {{{who}}}\nshouted {{{who}}}\n{{{who}.voice}} {{{who}}}\n{{{who}}} called"
    for who in ("hero", "friend")
}

# What more than one plot uses.
SHARED = {
    "alas": "Alas\nBless my whiskers\nDear me\nGoodness\nMercy\nOh dear\nOh no\nWhat a day\nWhat a pity\nWoe is me",
    "by": "beside\nby\nnear\nnot far from",
    "near": "Beside\nJust past\nNear\nNot far from",
    "with_load": "with a <container> of <produce>",
    "container": "bag\nbarrow\nbasket\nbowl\nbucket\ncart\ncrate\nhatful\njar\nsack",
    "clad": ", <in_clothes>,",
    "in_clothes": "in <colour> <garments>\nin a <colour> <garment>",
    "in_bed": "in a <colour> <nightwear>\nunder a <colour> quilt",
    "nightwear": "dressing gown\nnightcap\nnightgown\nnightshirt\npair of bed socks",
    "colour": "black\nblue\nbrown\ncream\ncrimson\ngreen\npurple\nscarlet\nsnow-white\nspotted\nstriped\ntartan\nviolet\nyellow",
    "garment": "apron\nbonnet\ncap\ncloak\ncoat\ndressing gown\njersey\nneckerchief\nnightcap\nscarf\nshawl\nwaistcoat",
    "garments": "boots\nbreeches\nclogs\ngaiters\nmittens\nslippers\nstockings",
    "produce": "acorns\nbeetroot\nblackberries\ncabbages\nchestnuts\ncowslips\ngooseberries\nhazelnuts\nmushrooms\n"
               "nettles\nonions\nparsnips\npears\nradishes\nturnips\nwalnuts",
    "odds": "<odd_one>, <odd_two> and <odd_three>\n<odd_two> and <odd_one>",
    "odd_one": "a broken comb\na cold pancake\na cork\na curtain ring\na dead spider\na lost button\na pine cone\na rusty key\n"
               "a single sock\na snail shell\na thimble\na walnut shell",
    "odd_two": "an empty bottle\nan old letter\nhalf a biscuit\nhalf a candle\none glove\none half of a map\nsome blue wool\n"
               "some breadcrumbs\nsome string\nthree beans\ntwo dice\ntwo feathers",
    "odd_three": "last year's almanac\nplenty of dust\nseven pins\nthe lid of a jar\nthe queen of hearts\nthe tail of a kite\n"
                 "yesterday's crossword",
    "path": "<past>, <round> and <over>\n<past> and <over>\n<round> and <over>",
    "past": "down the <street>\npast the <landmark>\nup the <street>",
    "street": "cart track\nchurch steps\ngravel path\nhigh street\nnarrow lane\ntowpath",
    "landmark": "bakery\nduck pond\nforge\ngate\ninn\nmaypole\nmilestone\nold pump\npost office\nschool",
    "round": "round the <corner>\nthrough the <green>",
    "corner": "barn\nbrickyard\nchapel\nhaystack\nsawmill\nstable\nwell",
    "green": "bracken\nclover\nclump of nettles\ngap in the hedge\nlong grass\nrushes\nturnip field",
    "over": "across the <crossing>\nover the <crossing>",
    "crossing": "bridge\nbrook\nditch\nfootbridge\nheath\nmeadow\nmillrace\nmoor\npasture\nstepping stones",
    "knocked": "gave one knock\nknocked at the window\nknocked three times\nrapped on the wall\ntapped with a pebble\nthumped on the door",
    "learned": """
And so {hero} learned that
From that day on {hero} knew that
That is how {hero} found out that
The old people say that
In that village they still say that
{hero} never forgot that
""",
}

LOST = {
    "came_home": """
came back to {hero.his} {hero.home}
got up
looked around {hero.his} {hero.home}
opened {hero.his} eyes
swept out {hero.his} {hero.home}
woke from a nap
""",
    "looked_in": "{hero.He} looked <under> and <behind>, but <nothing>.",
    "under": "in the teapot\ninside both boots\non every shelf\nunder the bed\nunder the mat\nunder the table\nup the chimney",
    "behind": "among the firewood\nbehind the clock\nbehind the curtain\nbehind the door\nbelow the stairs\n"
              "between the cushions\nin the flour bin",
    "nothing": "3* found only <odds>\n2* it was not there\n3* all that turned up was <odds>",
    "came_along": "came along\ncame by\nlooked over the gate\npassed\nstopped at the door\nwas just coming home",
    "why_sad": "What has happened?\nWhat is the matter?\nWhy are you crying?\nWhy so sad?\nWhy such a long face?",
    "told_all": "answered with a sob\ncould hardly answer\nexplained\npoured out the whole story\ntold {friend.him} everything",
    "will_help": "Do not cry\nI shall help you look\nFour eyes see more than two\nLet us look together\nThings do not walk\n"
                 "We shall find it\nWhat is lost can be found",
    "lately": "before breakfast\nlast night\non Sunday\nthis week\nyesterday",
    "to_place": "As far as {place}\nOnly to {place}\nOver to {place}\nPast {place}\nTo {place} and back",
    "on_the_way": "They <asked_a> <neighbour>, who <knew_nothing>.",
    "asked_a": "asked\nmet\nstopped\nwoke",
    "neighbour": "a carter\na fisherman\na pedlar\na shepherd\na sleepy cat\na washerwoman\nan old donkey\nthe miller\nthe postman\ntwo geese",
    "knew_nothing": "had seen nothing\nknew nothing\nonly laughed\nonly shrugged\npointed the wrong way\nsent them on\nwished them luck",
    "at_last": "After an hour\nAt last\nBefore long\nIn the end\nJust as they were giving up\nSuddenly\nThen",
    "pointed": "gave a shout\nlaughed out loud\npointed\nstood still\nstopped short\ntugged {hero.him} by the sleeve",
    "thanks": "Bless you\nHow can I thank you\nI could hug you\nThank you, dear {friend}\nYou are a true friend\n"
              "You have sharp eyes\nWithout you I should still be crying",
    "evening_meal": "That evening they <shared> {hero.treat} <where>.",
    "shared": "ate\nfeasted on\nhad\nshared",
    "where": "at the long table\nby candlelight\nby the fire\nin the garden\non the doorstep\nout of one bowl\nunder the stars",
    "moral_help": "<learned> <help_lesson>.",
    "help_lesson": """
a friend is worth more than any {thing}
a good neighbour is better than a lock
four eyes see more than two
help begins with a question
sorrow shared is sorrow halved
what two look for is soon found
""",
}

WISH = {
    "sighed": "dreamed\nfrowned\nkicked a pebble\nlooked at the sky\nsighed\nyawned",
    "more_than": "All my life I have wanted\nHow I should love\nI would give my tail\nIf only I knew how\nMore than anything I want\n"
                 "My dearest wish is",
    "heard": "happened to hear\nheard this and came nearer\nlooked up from <work>\nshook {friend.his} head\nstopped to listen",
    "work": "a basket of washing\na bed of leeks\na broken wheel\na fishing net\na game of chess\na knitted stocking\na newspaper",
    "doubt": "Be careful\nI wonder if that is wise\nNo good will come of it\nSleep on it first\nThat has never been done\nThink it over",
    "would_not": "did not listen\nhad already made up {hero.his} mind\nhummed and pretended not to hear\nlaughed\nonly tossed {hero.his} head\n"
                 "was gone already",
    "next_time": "After breakfast\nAt noon\nBefore supper\nOn Monday\nThat same day\nThe next morning\nWithin the hour",
    "alas_he": "But {hero.he}\nIn the end {hero.he}\nInstead {hero.he}\nOf course {hero.he}\nThe poor {hero.kind}",
    "came_running": "came running\nhurried\nran",
    "comforted": "brought <comfort>\nbrushed {hero.him} down\nhelped {hero.him} up\noffered {hero.him} <comfort>\nsat down beside {hero.him}",
    "comfort": "a blanket\na clean handkerchief\na cup of cocoa\na dry coat\na piece of toast\na plaster",
    "dont_cry": "Cheer up\nDon't cry\nIt was bravely tried\nNever mind\nThere are other ways\nThere, there",
    "thought": "blew {hero.his} nose\nbrightened\nlooked up\nsat thinking\nthought for a while\nwiped {hero.his} eyes",
    "agreed": "agreed\ndecided to try\nnodded\nsaid yes\nset to work",
    "well_now": "And now\nIs that not fine\nWell\nWhat do you say now",
    "better_than": "I had the wrong wish\nI never thought of that\nIt is better than my wish\nIt is enough for me\nMy wish came true sideways\nYou were right",
    "smiled": "beamed\nblushed\nclapped {hero.his} hands\nlaughed\nsmiled\nturned a cartwheel",
    "moral_wish": "<learned> <wish_lesson>.",
    "wish_lesson": """
a small wish that comes true is worth ten great ones
happiness is often next door
many roads lead up the same hill
one need not have wings to be happy
the best things lie within reach
what cannot be had one way may be had another
""",
}

QUARREL = {
    "were_friends": "had been friends <as_long_as>\nlived side by side\nshared everything\nwere the best of friends\nwere like two peas in a pod",
    "as_long_as": "all their lives\nfor seven years\nsince the great flood\nsince they were small",
    "one_time": "in <month>\non a <sky> <hour>\none <sky> <hour>",
    "mine": "I am right\nI saw it first\nIt is my turn\nLeave it to me\nListen to me\nYou always decide",
    "not_so": "Certainly not\nI will not\nNever\nNot this time\nYou are wrong\nYou have no idea",
    "words_flew": "One word led to another.\nThey argued <long_time>.\nThey shouted <long_time>.\nThey stamped their feet.",
    "long_time": "all afternoon\nfor an hour\nuntil they were hoarse\nuntil the cows came home",
    "parted": "Each blamed the other.\nEach went home alone.\nNeither would say goodnight.\nThey parted without a word.\nTwo doors slammed.",
    "days": "All week\nFor nine days\nFor three days\nUntil Sunday",
    "alone_one": "ate supper alone\nburned the toast\ncounted the raindrops\nkept the curtains drawn\nlost at cards against {hero.him}self\nplayed alone",
    "alone_two": "forgot to water the beans\nhummed sad songs\nlet the fire go out\nsat on the step and sulked\ntalked to the kettle\n"
                 "wrote letters and tore them up",
    "elder_came": "along came\nby chance they were seen by\nthey were visited by\nthere came a knock, and it was",
    "knew": "had heard the whole story\nhad once lost a friend\nhad seen it coming\nknew them both\nwas old and wise",
    "advice": "A quarrel is like a fire\nHe who says sorry first is the stronger\nLife is too short\nOne of you must begin\n"
              "The door is only shut, not locked\nTwo fools make a wall",
    "sorry": "Forgive me\nI am sorry\nI have missed you\nI was a fool\nIt was all my fault",
    "sorry_too": "And I am sorry too\nI was just coming to say that\nI was the greater fool\nLet us forget it\nNo, it was mine",
    "made_up": "embraced\nlaughed until they cried\nshook hands\nshared {friend.treat}\nwent home arm in arm",
    "moral_friends": "<learned> <friend_lesson>.",
    "friend_lesson": """
a friend is worth more than the last word
it takes two to quarrel and one to end it
nobody wins a quarrel
sorry is a short word and opens every door
the stubborn eat alone
those who argue lose what they argue about
""",
}
