"""More turns of phrase, for the plots of the storm, the boast, the gift, the noise, the fib and the feast.

The notation and the rules of `tale_phrases.py` hold here too.
"""

STORM = {
    "storm_rose": "a <wild> storm <broke>",
    "wild": "great\nhowling\nsudden\nterrible\nwild",
    "broke": "blew up\nbroke\ncame down\ngathered\nrose",
    "storm_did": """
Branches flew through the air.
Hail rattled on the roofs.
Lightning split the sky.
Rain fell in ropes.
The thunder shook the cups on the shelves.
The wind tore at the shutters.
""",
    "storm_did_too": """
Even the weathercock hid its head.
Every hen sat under the cart.
In the village the bell rang by itself.
Nobody in the valley slept.
The brook became a river.
4* Away sailed <odd_two>, <flyer> and <flyer_too>.
""",
    "flyer": "a chicken coop\na clothes line\na nightshirt\na parasol\na rake\na scarecrow\na wheelbarrow\nforty tiles",
    "flyer_too": "the baker's sign\nthe best tablecloth\nthe mayor's wig\nthe miller's hat\nthe pigsty roof\nthe postman's bag",
    "busy_with": "baking\ncounting buttons\ndarning a sock\nmaking {hero.treat}\nreading aloud\nrocking by the stove\nsorting seeds",
    "a_cry": "a cry\na faint call\na voice\nsomeone calling for help\nsomeone shouting",
    "hold_on": "Don't let go\nHold on\nI am coming\nKeep still\nOnly a minute more\nStay where you are",
    "took_quick": "caught up\nfetched\nfound\nseized\nsnatched up",
    "into_weather": "into the dark\ninto the rain\ninto the roaring wind\ninto the storm\nwithout a hat",
    "it_held": "And it worked!\nBit by bit it went.\nOnce it slipped, and once more, and then it was done.\nThat did it.\nThere was a crack, and then a cheer.",
    "are_you_hurt": "Are you all right\nAre you hurt\nCan you stand\nIs anything broken",
    "only_wet": "A little bruised, and very glad\nI am only cold\nI have never been so happy to see a face\nI knew you would come\n"
                "Only my pride\nOnly wet",
    "went_in": "hurried in\nran home\nwent indoors arm in arm\nwent inside",
    "warmed_up": "<drank> <hot> by the fire",
    "drank": "drank\nhad\nsat down to\nsipped\nwarmed up with",
    "hot": "hot <drink>\nsteaming <drink>",
    "drink": "apple juice\nbroth\ncocoa\nelderberry tea\nginger tea\nmilk and honey\nmulled plum juice\npeppermint tea\nrose hip tea",
    "storm_over": "By <when> the storm had blown itself out.\nThe storm grumbled off <away>.\nThey slept until the sky was blue.",
    "when": "dawn\nmidnight\nmorning\nsunrise\nteatime",
    "away": "behind the hills\nout to sea\nover the border\nto the north",
    "moral_brave": "<learned> <brave_lesson>.",
    "brave_lesson": """
a brave heart makes a strong arm
courage is being afraid and going all the same
help that comes at once is twice as good
no door should be shut in a storm
one finds a friend in bad weather
the smallest hand can hold the rope
""",
}

BOAST = {
    "was_proud": "could not keep from boasting\nthought highly of {hero.him}self\nwas very fond of praise\nwas very proud",
    "bragged": "began to brag\nmade a speech\npuffed out {hero.his} chest\nspoke so that all could hear",
    "nobody_can": "Not one of you can\nNobody but me can\nNobody in this valley can\nThere is none here who can",
    "i_can": "But I can\nFor me it is child's play\nI could do it asleep\nI do it every Tuesday\nJust watch me\nOnly I know how",
    "really": "Fancy that\nHow wonderful\nIndeed\nReally\nWho would have thought it\nYou don't say",
    "and_had_time": "and had all day\nand liked to be sure\nand never believed a thing unseen\nand was in no hurry",
    "show_us": "I should like to see that\nLet us all see it\nPlease show us\nShow us now\nToday is as good a day as any",
    "crowd_came": "<neighbours> came to watch.",
    "neighbours": "4* <crowd_one>, <crowd_two> and <crowd_three>\nA dozen ducklings\nAll the neighbours\nEven the miller\nHalf the village\nThe whole school",
    "crowd_one": "Seven hens\nThe baker\nThe beadle\nThe blacksmith\nThe old gander\nThree ducklings\nTwo hares",
    "crowd_two": "a brass band\na deaf cat\na pedlar\nfive farmers\nnine sheep\nsix magpies\ntwo nuns",
    "crowd_three": "an astonished cow\nhalf the school\nmany a mouse\nthe mayor in his slippers\nthe parson's donkey\nthe postman",
    "then_what": "And then\nBut\nFor one moment all went well, but then\nThe next thing they knew,",
    "crowd_laughed": "Everybody laughed <how>.\nThe crowd laughed <how>.\nThere was a silence, and then a roar of laughter.",
    "how": "and laughed again\nfor a week\nlike a drain\nuntil it hurt",
    "helped_up": "did not laugh\nheld out a hand\nlent {hero.him} a dry shirt\nran to help\nstayed to help",
    "next_time_say": "A little less would have been plenty\nNext time begin with something smaller\nNext time practise first\n"
                     "We like you as you are\nYou need not be the best at everything",
    "i_see": "From now on I shall whistle instead\nI have learned my lesson\nI see\nI spoke too soon\nI talk too much\nYou are kinder than I deserve",
    "blushed": "blushed\nhung {hero.his} head\nlaughed too\nlooked at {hero.his} feet\nturned red to the ears",
    "moral_proud": "<learned> <proud_lesson>.",
    "proud_lesson": """
a big mouth needs a big towel
an empty barrel makes the most noise
boasting is the shortest way to falling
deeds speak louder than drums
pride goes up the stairs and comes down the chute
those who can do it seldom say so
""",
}

GIFT = {
    "nearly": "a week before\nalmost\nnearly\nthe day before",
    "wanted_to_give": "had no money for a present\nhad thought of nothing yet\nwanted to give {friend.him} something fine\nwanted to make a present",
    "i_know": "I have it\nI know just the thing\nLet me think\nShops are for lazy people",
    "fetched": "begged\nborrowed\nbought\ncollected\nfetched\nfound",
    "worked": "began at once\nset to work\nworked all day\nworked by lamplight\nworked in secret",
    "in_came": "In came\nJust then {hero.he} was visited by\nPast the window came\nThe noise woke",
    "spoilt": "Is it spoilt\nSo it went wrong\nWhat is all this\nWhy that face",
    "look_again": "Look again\nNothing is spoilt until it is thrown away\nTurn it round and look\nWait\nWe can make something of that",
    "put_heads": "cut, mended and laughed\nmeasured and muttered\nput their heads together\nsnipped and glued\ntinkered",
    "late": "it was done\nlate in the night\nthe candle went out\nthe cock crowed\nthe stars came out",
    "on_the_day": "On the birthday\nOn the great day\nWhen the day came,",
    "brought": "brought\ncarried in\nheld out\nproudly brought\nset down on the table\nunwrapped",
    "never_had": "How well you know me\nI have never had anything like it\nI shall keep it for ever\nIt is the best present of all\n"
                 "It is too good to be true\nThere is not another like it",
    "danced": "clapped {friend.his} hands\ndanced round the table\nhugged them both\nlaughed with joy\nwept a little",
    "birthday_meal": "Then there was {friend.treat} <for_guests>.\nThen they <played> until <end_of_day>.",
    "for_guests": "for all the guests\nfor breakfast, dinner and supper\nin the good bowls\nwith seven candles",
    "played": "danced\nplayed blind man's buff\nplayed hide and seek\nsang rounds\ntold riddles",
    "end_of_day": "bedtime\nmidnight\nthe lamps were lit\nthe moon rose\nthey fell over",
    "moral_gift": "<learned> <gift_lesson>.",
    "gift_lesson": """
a gift is made by the giver
a mistake is half of an invention
it is the thought that ties the ribbon
love shows best where the seam is crooked
nothing made with care is made in vain
two heads mend what one has broken
""",
}

NOISE = {
    "pulled_up": "hid under the bed\npulled the blanket over {hero.his} ears\nsat straight up\nstopped breathing\ntrembled like a leaf\nturned cold",
    "what_is_it": "<alas>\nHelp\nI know what that is\nNow it comes for me\nSomebody is there",
    "crept": "crept\nfled\nran barefoot\nslipped out of the back door and ran\ntiptoed",
    "wake_up": "Come quickly\nHelp me\nI am not alone at home\nLet me in\nWake up",
    "yawned": "blinked\nput on one slipper\nrubbed {friend.his} eyes\nyawned",
    "took_light": "came with a candle\nlit a lamp\nlit the lantern\ntook a broom\ntook a saucepan for a helmet\ntook {hero.him} by the hand",
    "together_they": """
Side by side they <went_back>.
Step by step they <went_back>.
Together they <went_back>.
With beating hearts they <went_back>.
""",
    "went_back": "crossed the yard\nfollowed the sound\nwent back\nwent to look",
    "peeped": "counted to three and looked\nheld up the light\nlooked\npeeped round the corner\npushed open the door",
    "laughed_so": """
How they laughed!
They laughed until the <nightbird> outside flew off.
They laughed until they had to sit down.
They looked at each other and laughed.
""",
    "was_afraid": "And I was so afraid\nAnd I was ready to move house\nI made it ten times bigger in the dark\nI shall never live this down\nWhat a coward I am",
    "so_was_i": "And I had my eyes shut\nI only held the light\nNobody need know\nNot at all, for you went back\nSo was I",
    "warm_drink": "They <drank> <hot> and <slept>.",
    "slept": "slept until noon\nsoon slept soundly\ntalked until it was light\nwatched the sun come up",
    "moral_fear": "<learned> <fear_lesson>.",
    "fear_lesson": """
a candle is bigger than the dark
fear has large eyes
most monsters are gone by the time one has looked
the dark is only the day with its eyes shut
two are braver than one
what one looks in the face grows small
""",
}

FIB = {
    "bored": "bored\nfond of jokes\nin a mischievous mood\ntired of quiet days",
    "shouted": "called out\ncried\nshouted\ntold everyone",
    "hid_laugh": "hid behind a tree and laughed\nlaughed until {hero.he} hiccupped\nlooked as good as gold\nthought it a fine joke",
    "was_true": "Did you see it yourself\nIs that true\nWas there a word of truth in it\nWho told you so",
    "and_no_fool": "and hard to fool\nand nobody's fool\nand had wondered from the first\nand knew {hero.him} well",
    "only_joke": "Everyone likes a joke\nIt was just for fun\nIt was only a joke\nNo harm is done\nYou should have seen their faces",
    "after_days": "a month later\na week later\nat harvest time\nnot long afterwards\nsoon enough\nthe very next day",
    "ran_about": "begged and pleaded\ncried for help\nran <path>\nrang the bell\nshouted until {hero.he} was hoarse",
    "nobody_listened": "nobody believed {hero.him}\nnobody listened\nnobody looked up\nthe doors stayed shut",
    "heard_before": "Not again\nTell it to the geese\nThat one is old\nVery funny\nWe have heard that before",
    "came_anyway": "came all the same\ncame out to see\nput down <work> and came\nstopped and looked {hero.him} in the eye",
    "this_time": "And this time\nHave I your word\nIs it true now\nTruly",
    "by_my": "By my mother's apron\nI will never fib again\nIt is true this time\nOn my honour\nPlease believe me",
    "hung_head": "began to cry\nhung {hero.his} head\nlooked at the ground\nmeant every word",
    "helped_out": "called the others together\nhelped as well as {friend.he} could\nrolled up {friend.his} sleeves\nset things right",
    "told_sorry": "said sorry at every door\nswept the square for a month\nthanked {friend.him} with {hero.treat}\ntold the truth ever after",
    "moral_truth": "<learned> <truth_lesson>.",
    "truth_lesson": """
a fib has short legs
a fib is paid for twice
one who cries for fun will cry alone
the truth needs no good memory
trust is a pot that breaks easily
words are like feathers and are not gathered up again
""",
}

FEAST = {
    "wished_to_cook": "got out the big pot for\ninvited nobody and made\nset about making\nwanted to make\nwas hungry for",
    "cupboard": "the cupboard was bare\nthe jar was empty\nthe mice had been there first\nthere was not enough for one",
    "hero_counted": "There was only <a_pinch> of <staple> and a <staple_end> <one_thing>.",
    "a_pinch": "a crumb\na cupful\na pinch\na spoonful\na thimbleful",
    "staple": "barley\ncinnamon\nflour\noats\npepper\nrice\nsalt\nsugar",
    "staple_end": "dry\nlonely\nsmall\nwithered",
    "one_thing": "apple\nbean\ncarrot\ncrust\nlemon\nonion\nraisin",
    "have_you": "Can you lend me some butter\nHave you an egg\nHave you anything to spare\nMay I borrow a <spoon> of <staple>\nWould you share your supper",
    "some_left": "As much as you can carry\nHalf of mine is yours\nI have a little\nI have some left\nTake what you need\nThat depends",
    "may_i_come": "Am I invited\nIs there room for two\nMay I come too\nMay I stir\nWhat is for supper",
    "what_cooking": "What are you two up to\nWhat is cooking\nWhere are you off to\nWhose birthday is it",
    "come_along_too": "Come along\nCome and eat with us\nThe more hands the better\nThere is always room\nYou are invited",
    "cooked_it": "They <chopped>, <mixed> and <tasted>.",
    "chopped": "chopped\ngrated\nmeasured\npeeled\nscrubbed",
    "mixed": "beat\nkneaded\nmixed\npoured\nwhisked",
    "tasted": "hoped\nsang\nspilled\ntasted\nwaited",
    "into_pot": "Into the pot went <number> <produce>, a <spoon> of <staple> and <odd_addition>.",
    "number": "eight\nfive\nfour\nnine\nseven\nsix\nthree\ntwo",
    "spoon": "cup\nfistful\npinch\nsmidgen\nspoon\nthimble",
    "odd_addition": "a bay leaf\na clove\na drop of cider\na knob of butter\na sprig of sage\na wish\nby accident a cork\nmuch pepper\none stray raisin",
    "stirred_by": "{friend} <kept_fire> and {elder} <set_table>.",
    "kept_fire": "blew on the fire\nfetched water\nkept the fire\nstirred\nwashed the bowls",
    "set_table": "cut the bread\nlaid the table\npicked flowers\ntold stories\ntuned the fiddle",
    "done": "done\nready\nsteaming on the table\ntasted and found good",
    "enough": "enough for all three\nenough for the whole lane\nenough for twelve\nmore than they could eat\nsome left over for the <bird>",
    "ate": "They ate <where>.\nThey ate until <full>.",
    "full": "the pot was clean\nthe spoons were tired\nthey could hardly stand\ntheir buttons popped",
    "sang_after": "Afterwards they <played> until <end_of_day>.",
    "moral_share": "<learned> <share_lesson>.",
    "share_lesson": """
a shared crust is a feast
an empty cupboard is a good excuse for company
food tastes best from a crowded table
many small things make one large one
nobody is poor who has neighbours
one pot feeds many when many fill it
""",
}
